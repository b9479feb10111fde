"""Decides under which host names the REST interface answers, and which web pages may read its answers.

A page of any site can make a browser send requests to a server on the user's own machine. If the site points a host
name of its own at that machine (DNS rebinding), the page can read the answers, too. The headers `Host` and `Origin`
tell such requests apart.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from tfvl.serving.client.errors import RequestError

ANY = "*"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}
# A browser asks before it sends a request from another origin (a CORS preflight): these headers allow it to.
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "600",
}


class Access:
    """The host names and the origins of web pages that are served.

    Args:
        host: the address that the server listens on; requests may name it, or one of loopback's names.
        hosts: more names that requests may give in `Host`; "*" for any.
        origins: more pages that may read answers, e.g. "https://example.org:8080"; "*" for any. Pages of the server's
            own origin always may.

    Raises:
        ValueError: one of `hosts` is not a host name, or one of `origins` is not an origin.
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
        """Returns headers to add to the answer. Raises RequestError with code PERMISSION_DENIED, HTTP's 403.

        Args:
            hosts, origins: the values of a request's headers `Host` and `Origin`, each of which may occur repeatedly.
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
    """Returns scheme, host and port of an origin; None if `url` is not an origin, such as the "null" of browsers."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    plain = parts.scheme in _PORTS and parts.hostname and "@" not in parts.netloc
    if not plain or parts.path or parts.query or parts.fragment or url != url.strip():
        return None
    return parts.scheme, parts.hostname, port
