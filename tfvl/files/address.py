"""Fetches content from `http(s)` addresses of public hosts only, never from this machine or its network.

A host is resolved once, all its IP addresses must be public, and the connection goes to one that was checked, so that a
name server that answers differently the second time (DNS rebinding) gains nothing. Redirects are checked in the same
way. Proxies that the environment names are not used, since they would resolve the host again.
"""

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

MAX_BYTES = 32 << 20
SECONDS = 30.0  # for all of it
SILENT_SECONDS = 10.0  # until the host answers, and between two of its packets
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16
PORTS = {"http": 80, "https": 443}
HEADERS = {"User-Agent": "tfvl", "Accept": "image/*", "Accept-Encoding": "identity"}

_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def is_address(source: Any) -> bool:
    """Returns whether `source` is a text that begins with `http://` or `https://`."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def fetch(address: str) -> bytes:
    """Fetches the content of an `http(s)` address.

    Args:
        address: the address, whose host must be public: no loopback, private, link-local or reserved IP address.

    Returns: the content, at most `MAX_BYTES` bytes, which has arrived within `SECONDS`.

    Raises:
        ValueError: the address, or one that it redirects to, may not be fetched, cannot be reached, or gives no image
            in time; names the address, the reason and the limit.
    """
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_followed(address))
        except Exception as error:  # which belongs to the thread that waits
            outcome.put(error)

    threading.Thread(target=work, daemon=True, name="tfvl-fetch").start()
    try:
        found = outcome.get(timeout=SECONDS)
    except queue.Empty:
        found = ValueError(f"{address[:200]}: it did not arrive within {SECONDS:g} seconds")
    if isinstance(found, Exception):
        raise found
    return found


def is_public(place: str) -> bool:
    """Returns whether an IP address belongs to the public internet, and does not embed another address."""
    found = ipaddress.ip_address(place)
    stands_for_another = isinstance(found, ipaddress.IPv6Address) and (
        found.sixtofour is not None or found.teredo is not None or found.is_site_local
    )
    return found.is_global and not (found.is_multicast or found.is_reserved or stands_for_another)


def places_of(host: str, port: int) -> list[str]:
    """Resolves a host to its IP addresses. Raises OSError if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _followed(address: str) -> bytes:
    """Fetches the content of an address, following redirects."""
    at = address
    for _ in range(MAX_REDIRECTS + 1):
        with _asked(at) as response:
            if response.status not in (301, 302, 303, 307, 308):
                return _content(response, at)
            target = urljoin(at, response.headers.get("Location", ""))
        if at.lower().startswith("https:") and not target.lower().startswith("https:"):
            raise ValueError(f"{at[:200]}: it redirects to {target[:200]}, which is not https, so it is not fetched")
        at = target
    raise ValueError(f"{address[:200]}: it redirects more than {MAX_REDIRECTS} times")


@contextmanager
def _asked(address: str) -> Iterator[Any]:
    """Yields the response to a GET from an IP address that was checked; its content is still to be read."""
    import urllib3
    from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError

    shown = address[:200]
    try:
        url = urllib3.util.parse_url(address)
    except LocationParseError:
        raise ValueError(f"{shown}: it is no address") from None
    if url.scheme not in PORTS or not url.host:
        raise ValueError(f"{shown}: it is no http or https address, so it is not fetched")
    if url.auth:
        raise ValueError(f"{shown}: an address with a user's name is not fetched; fetch it, and give the bytes")
    host, port = url.host.strip("[]"), url.port or PORTS[url.scheme]
    try:
        places = places_of(host, port)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{shown}: {host} cannot be found ({error})") from None
    if hidden := [place for place in places if not is_public(place.partition("%")[0])]:
        named = host if hidden[0] == host else f"{host} ({hidden[0]})"
        raise ValueError(
            f"{shown}: {named} is no public address, so it is not fetched; give the image's bytes or a path"
        )
    tls: dict[str, Any] = {"server_hostname": host, "assert_hostname": host} if url.scheme == "https" else {}
    kind = urllib3.HTTPSConnectionPool if tls else urllib3.HTTPConnectionPool
    for place in places:
        with kind(place, port, timeout=SILENT_SECONDS, retries=False, **tls) as pool:
            try:
                headers = HEADERS | {"Host": url.netloc}
                response = pool.urlopen("GET", url.request_uri, headers=headers, redirect=False, preload_content=False)
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = _reason(error)  # the next place of the host may be reached
                continue
            except HTTPError as error:
                raise ValueError(f"{shown}: it cannot be fetched ({_reason(error)})") from None
            try:
                yield response
            except HTTPError as error:
                raise ValueError(f"{shown}: it cannot be fetched ({_reason(error)})") from None
            finally:
                response.close()
            return
    raise ValueError(f"{shown}: {host} cannot be reached ({failure})")


def _reason(error: Exception) -> str:
    """Returns the reason of an error, without the connection object that urllib3 puts before it."""
    return str(error).rpartition(": ")[2][:200]


def _content(response, address: str) -> bytes:
    if response.status != 200:
        raise ValueError(f"{address[:200]}: the server answers {response.status} {response.reason or ''}".rstrip())
    too_large = f"{address[:200]}: it has more than {MAX_BYTES} bytes, at most so many are fetched"
    said = response.headers.get("Content-Length", "")
    if said.isdecimal() and int(said[:20]) > MAX_BYTES:
        raise ValueError(too_large)
    content = bytearray()
    for chunk in response.stream(CHUNK_BYTES, decode_content=False):
        content += chunk
        if len(content) > MAX_BYTES:
            raise ValueError(too_large)
    return bytes(content)
