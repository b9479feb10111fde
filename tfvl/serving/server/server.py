"""The embedded server: REST and gRPC for the same models, in one process."""

import logging
import resource
import threading

import uvicorn

from tfvl.serving.server import ports
from tfvl.serving.server.access import Access
from tfvl.serving.server.connections import protocol
from tfvl.serving.server.grpc import GrpcServer
from tfvl.serving.server.limits import Seldom
from tfvl.serving.server.page import Page
from tfvl.serving.server.rest import application
from tfvl.serving.server.service import Service

MAX_CONNECTIONS = 256  # of the REST interface
# gRPC cannot end the connection that has been idle for longest, so there are more of them, which cost little.
MAX_GRPC_CONNECTIONS = 4 * MAX_CONNECTIONS
BACKLOG = 128  # connections that may wait to be accepted
KEEP_ALIVE_SECONDS = 60


class Server:
    """Listens as soon as it is made; its attributes `rest_port` and `grpc_port` are the ports in use.

    Args:
        service: the models.
        access: the hosts and origins that are served over REST.
        host: the address to listen on.
        rest_port, grpc_port: the two ports; 0 for any that is free.
        read_seconds: the time within which the headers of a request, and then its body, must arrive.
        drain_seconds: the time that requests under way have after `stop`.
        page: the page at `/` of the REST interface, if there is one.

    Raises OSError if a port cannot be used.
    """

    def __init__(
        self,
        service: Service,
        access: Access,
        *,
        host: str,
        rest_port: int,
        grpc_port: int,
        read_seconds: float,
        drain_seconds: float,
        page: Page | None = None,
    ):
        self._drain_seconds = drain_seconds
        connections, grpc_connections = most_connections()
        self._socket = ports.listener(host, rest_port, BACKLOG)  # connections before uvicorn runs wait in its backlog
        self.rest_port = self._socket.getsockname()[1]
        self._grpc = GrpcServer(
            service, f"{ports.bracketed(host)}:{grpc_port}", connections=grpc_connections, read_seconds=read_seconds
        )
        self.grpc_port = self._grpc.port
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).addFilter(Seldom())
        config = uvicorn.Config(
            application(service, access, read_seconds=read_seconds, page=page),
            http=protocol(read_seconds, connections),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections + BACKLOG,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(drain_seconds),
        )
        self._rest = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._rest.run, args=([self._socket],), name="rest", daemon=True)
        self._thread.start()
        self._grpc.start()

    def stop(self) -> None:
        """Takes no new requests, finishes those under way, and returns."""
        self._rest.should_exit = True
        self._grpc.stop(self._drain_seconds)
        self._thread.join(self._drain_seconds + 5)


def most_connections() -> tuple[int, int]:
    """Returns the limits of REST's and of gRPC's connections, for which the process has enough file descriptors.

    At most three quarters of the descriptors are for connections; the others are for files, libraries and the backlog.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * (MAX_GRPC_CONNECTIONS + MAX_CONNECTIONS + BACKLOG)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS, MAX_GRPC_CONNECTIONS
    return max(min(MAX_CONNECTIONS, soft // 4), 1), max(min(MAX_GRPC_CONNECTIONS, soft // 2), 1)
