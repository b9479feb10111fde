"""Who is served: names of the server against DNS rebinding, and web pages of other origins."""

import pytest

from tfvl.serving.client.errors import HTTP_STATUS, RequestError
from tfvl.serving.server.access import Access


def outcome(access: Access, host: str | None, *origins: str):
    """Returns the headers that are added, or "403"."""
    try:
        return access.check([] if host is None else [host], list(origins))
    except RequestError as error:
        return str(HTTP_STATUS[error.code])


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("LocalHost:8501", True),
        ("127.0.0.1:9000", True),
        ("[::1]:8501", True),
        ("192.168.1.5:8501", True),  # --host
        ("vqa.test", True),  # --allow-host
        ("evil.test", False),
        ("localhost.evil.test", False),
        ("evil.test@localhost", False),
        ("localhost/evil.test", False),
        ("127.0.0.2", False),
        ("localhost:port", False),
        (" localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts(host, served):
    access = Access("192.168.1.5", ["VQA.test"])
    assert outcome(access, host) == ({} if served else "403")
    assert outcome(Access("127.0.0.1", ["*"]), host) == {}


def test_two_hosts_are_none():
    with pytest.raises(RequestError, match="is not served; start the server with --allow-host"):
        Access("127.0.0.1").check(["localhost", "localhost"], [])


@pytest.mark.parametrize(
    ("host", "origin", "served"),
    [
        ("localhost:8501", "http://localhost:8501", True),
        ("localhost", "http://localhost:80", True),
        ("localhost:80", "http://LOCALHOST", True),
        ("[::1]:8501", "http://[::1]:8501", True),
        ("localhost:8501", "http://localhost", False),  # another port
        ("localhost:8501", "http://localhost:3000", False),
        ("localhost:8501", "https://localhost:8501", False),  # another scheme
        ("localhost:8501", "http://127.0.0.1:8501", False),  # another host
        ("localhost:8501", "null", False),
        ("localhost:8501", "", False),
        ("localhost:8501", "http://evil.test", False),
        ("localhost:8501", "http://localhost:8501/", False),  # no origin: browsers send none with a path
        ("localhost:8501", "http://evil.test@localhost:8501", False),
    ],
)
def test_without_options_only_the_same_origin_is_served(host, origin, served):
    assert outcome(Access("127.0.0.1"), host, origin) == ({} if served else "403")


def test_allowed_origins_get_headers_for_it_and_others_do_not():
    access = Access("127.0.0.1", origins=["https://page.test", "http://page.test:3000"])
    allowed = {"Access-Control-Allow-Origin": "https://page.test", "Vary": "Origin"}
    assert outcome(access, "localhost:8501", "https://page.test") == allowed
    assert outcome(access, "localhost:8501", "http://page.test:3000")["Access-Control-Allow-Origin"].endswith(":3000")
    for origin in ("http://page.test", "https://page.test:3000", "https://other.test", "null"):
        assert outcome(access, "localhost:8501", origin) == "403"
    assert outcome(access, "localhost:8501", "http://localhost:8501") == {}
    assert outcome(access, "evil.test", "https://page.test") == "403"
    assert outcome(access, "localhost", "https://page.test", "https://evil.test") == "403"
    assert outcome(Access("127.0.0.1", origins=["*"]), "localhost", "null")["Access-Control-Allow-Origin"] == "null"


def test_what_is_no_host_or_origin_is_refused_at_the_start():
    for host in ("http://a.test", "a.test:80", "a b", ""):
        with pytest.raises(ValueError, match="is not a name without scheme and port"):
            Access("127.0.0.1", [host])
    for origin in ("page.test", "http://page.test/path", "ftp://page.test", "null", "http://page.test:port"):
        with pytest.raises(ValueError, match=r"are not all as https://example\.org:8080"):
            Access("127.0.0.1", origins=["http://good.test", origin])
