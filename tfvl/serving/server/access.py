"""Which names the REST interface answers to, and which web pages may read its answers.

A page of any site can make a browser send requests to a server on the user's own machine, and with a name of its own
that it points there (DNS rebinding) read the answers. `Host` and `Origin` tell such requests apart.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from tfvl.serving.client.errors import RequestError

ANY = "*"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}
# What a browser that asks before it sends a request from an allowed origin is told, beside `Access.check`.
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "600",
}


class Access:
    """Who is served.

    Args:
        host: the address that the server listens on, whose name is served beside those of loopback.
        hosts: more names that requests may call the server; "*" for any.
        origins: pages that may read answers, e.g. "https://example.org:8080", beside those of the same origin; "*" for
            any.

    Raises:
        ValueError: what is no name or no origin.
    """

    def __init__(self, host: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()):
        given = [name.lower().removeprefix("[").removesuffix("]") for name in hosts]
        for name in given:
            if name != ANY and (not name or set(name) & set("/@ ") or (":" in name and name.count(":") < 2)):
                raise ValueError(f"the host {name!r} is not a name without scheme and port, such as example.org")
        self._hosts = {*LOOPBACK, host.lower(), *given}
        self._origins = {origin if origin == ANY else _origin(origin) for origin in origins}
        if None in self._origins:
            raise ValueError(f"the origins {', '.join(origins)} are not all as https://example.org:8080")

    def check(self, hosts: list[str], origins: list[str]) -> dict[str, str]:
        """What to add to the answer's headers. Raises RequestError with code PERMISSION_DENIED, which is HTTP's 403.

        Args:
            hosts, origins: the values of all headers `Host` and `Origin` of a request.
        """
        own = _origin(f"http://{hosts[0]}") if len(hosts) == 1 else None
        if ANY not in self._hosts and (own is None or own[1] not in self._hosts):
            raise RequestError(
                "PERMISSION_DENIED", f"the host {', '.join(hosts)!r} is not served; start the server with --allow-host"
            )
        if not origins:
            return {}
        origin = _origin(origins[0]) if len(origins) == 1 else None
        if ANY in self._origins or (origin is not None and origin in self._origins):
            return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"}
        if origin is None or origin != own:
            raise RequestError(
                "PERMISSION_DENIED",
                f"the origin {', '.join(origins)!r} is not served; start the server with --allow-origin",
            )
        return {}


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for anything else, "null" among it."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    plain = parts.scheme in _PORTS and parts.hostname and "@" not in parts.netloc
    if not plain or parts.path or parts.query or parts.fragment or url != url.strip():
        return None
    return parts.scheme, parts.hostname, port
