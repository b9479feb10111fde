"""Clients, the embedded server and TF Serving's configurations. Imports lite, preprocessing and what is below."""

import importlib

__all__ = ["Answer", "Client", "DeadlineExceededError", "RequestRefusedError", "ServerUnavailableError"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tfvl.serving.client.client"), name)
