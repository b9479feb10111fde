"""Clients, the embedded server and TF Serving's configurations. Imports lite, preprocessing and what is below."""

from tfvl.serving.client.client import (
    Answer,
    Client,
    DeadlineExceededError,
    RequestRefusedError,
    ServerUnavailableError,
)

__all__ = ["Answer", "Client", "DeadlineExceededError", "RequestRefusedError", "ServerUnavailableError"]
