"""Serving an exported model: the clients, the embedded server, and the configurations of TF Serving."""

import importlib

__all__ = ["Answer", "Client", "DeadlineExceededError", "RequestRefusedError", "ServerUnavailableError"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tfvl.serving.client.client"), name)
