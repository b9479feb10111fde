"""The embedded server: REST and gRPC for the same models, in one process."""

import socket
import threading

import uvicorn

from tfvl.serving.server.grpc import GrpcServer
from tfvl.serving.server.rest import application, patient_protocol
from tfvl.serving.server.service import Service

MAX_CONNECTIONS = 256
KEEP_ALIVE_SECONDS = 60


class Server:
    """Listens from the start on; `rest_port` and `grpc_port` are those in use.

    Args:
        service: the models.
        host: the address to listen on.
        rest_port, grpc_port: 0 for any that is free.
        max_bytes: the largest request.
        read_seconds: within which the headers of a request, and then its body, must have arrived.

    Raises OSError if a port cannot be used.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str,
        rest_port: int,
        grpc_port: int,
        max_bytes: int,
        read_seconds: float,
        drain_seconds: float,
    ):
        self._drain_seconds = drain_seconds
        self._socket = _listen(host, rest_port)
        self.rest_port = self._socket.getsockname()[1]
        self._grpc = GrpcServer(service, f"{_bracketed(host)}:{grpc_port}", max_bytes=max_bytes)
        self.grpc_port = self._grpc.port
        config = uvicorn.Config(
            application(service, max_bytes=max_bytes, read_seconds=read_seconds),
            http=patient_protocol(read_seconds),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(drain_seconds),
        )
        self._rest = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._rest.run, args=([self._socket],), name="rest", daemon=True)
        self._thread.start()
        self._grpc.start()

    def stop(self) -> None:
        """Drains: takes nothing new, answers what is under way."""
        self._rest.should_exit = True
        self._grpc.stop(self._drain_seconds)
        self._thread.join(self._drain_seconds + 5)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(MAX_CONNECTIONS)  # whoever comes before uvicorn runs, waits
    except OSError as error:
        listener.close()
        raise OSError(
            f"REST cannot listen on {_bracketed(host)}:{port} ({error.strerror}); give another with --rest-port"
        ) from None
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
