"""The ports that a server listens on. Imports nothing heavy, so that a port in use is noticed before models load."""

import socket
from contextlib import closing


def check(host: str, rest_port: int, grpc_port: int) -> None:
    """Raises OSError if a server cannot listen on one of the ports; 0 stands for any that is free."""
    with closing(listener(host, rest_port)), closing(listener(host, grpc_port, interface="gRPC")):
        pass


def listener(host: str, port: int, backlog: int = 1, *, interface: str = "REST") -> socket.socket:
    """Returns a listening socket. Raises OSError, with the interface's name and option, if it cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every answer waits 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(backlog)
    except OSError as error:
        made.close()
        raise OSError(
            f"{interface} cannot listen on {bracketed(host)}:{port} ({error.strerror}); give another with "
            f"--{interface.lower()}-port"
        ) from None
    return made


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
