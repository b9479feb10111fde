"""Images by their address: what is fetched, and what an address cannot reach."""

import contextlib
import io
import time
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from PIL import Image
from support.http_server import Quiet, serving

from tfvl.cli.app import main
from tfvl.files import address
from tfvl.files.address import fetch, is_address, is_public
from tfvl.pipelines.calls import as_image
from tfvl.preprocessing import visuals
from tfvl.preprocessing.image.decode import to_levels

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
HOST = "pictures.example"


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(LEVELS).save(file, kind, lossless=True)
    return file.getvalue()


class Pictures(Quiet, BaseHTTPRequestHandler):
    """A server that answers as the path says; `seen` has the path and the `Host` of each request."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]

    def do_GET(self):
        self.seen.append((self.path, self.headers["Host"]))
        kind, _, rest = self.path.strip("/").partition("/")
        if kind in ("png", "webp"):
            self.reply(200, encoded(kind))
        elif kind == "to":
            self.reply(302, b"", {"Location": rest})
        elif kind == "nowhere":
            self.reply(302, b"")
        elif kind == "long":
            self.reply(200, b"", {"Content-Length": str(address.MAX_BYTES + 1)})
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        elif kind == "packed":
            self.reply(200, encoded("png"), {"Content-Encoding": "gzip"})
        elif kind == "torn":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"PNG")
            self.close_connection = True
        elif kind in ("slow", "slow-head"):
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 999\r\n\r\n" if kind == "slow" else b""))
                for _ in range(200):
                    self.wfile.write(b"X")
                    self.wfile.flush()
                    time.sleep(0.05)
        else:
            self.reply(404, b"")


@pytest.fixture
def pictures(monkeypatch):
    """Runs the stand-in, whose host is taken for a public one; yields its address."""
    Pictures.seen = []
    real = address.places_of
    monkeypatch.setattr(address, "places_of", lambda host, port: ["127.0.0.1"] if host == HOST else real(host, port))
    monkeypatch.setattr(address, "is_public", lambda place: place == "127.0.0.1" or is_public(place))
    with serving(Pictures) as url:
        yield url.replace("127.0.0.1", HOST)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_every_entrance_takes_an_address(pictures, kind):
    at = f"{pictures}/{kind}"
    assert (to_levels(at, 1000).levels == LEVELS).all()
    for read in (as_image, visuals.read):
        assert (to_levels(read(at), 1000).levels == LEVELS).all()
    _, (one,) = visuals.read_all([at])
    assert (to_levels(one, 1000).levels == LEVELS).all()
    assert {host for _, host in Pictures.seen} == {pictures.removeprefix("http://")}


def test_redirects_are_followed(pictures):
    assert fetch(f"{pictures}/to//png") == encoded("png")
    assert fetch(f"{pictures}/to/{pictures}/to//png") == encoded("png")


REFUSED = {
    "long": "more than .* bytes, at most so many are fetched",
    "endless": "more than .* bytes, at most so many are fetched",
    "torn": "cannot be fetched",
    "missing": "the server answers 404",
    "nowhere": "redirects more than 5 times",
    "to/file:///etc/passwd": "no http or https address",
    "to/ftp://example.org/a.png": "no http or https address",
    "to/http://127.0.0.2/a.png": "127.0.0.2 is no public address",
    "to/http://localhost:1/a.png": "is no public address|cannot be reached",
    "to/http://[::1]/a.png": "no address",
    "to/http://169.254.169.254/latest": "169.254.169.254 is no public address",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_refused(pictures, monkeypatch, path):
    monkeypatch.setattr(address, "MAX_BYTES", 1 << 20)
    with pytest.raises(ValueError, match=REFUSED[path]) as caught:
        fetch(f"{pictures}/{path}")
    assert "\n" not in str(caught.value)


def test_what_is_packed_is_not_unpacked(pictures):
    assert fetch(f"{pictures}/packed") == encoded("png")


@pytest.mark.parametrize("kind", ["slow", "slow-head"])
def test_an_answer_in_drops_ends_in_time(pictures, monkeypatch, kind):
    monkeypatch.setattr(address, "SECONDS", 0.3)
    with pytest.raises(ValueError, match=r"did not arrive within 0\.3 seconds"):
        fetch(f"{pictures}/{kind}")


@pytest.mark.parametrize(
    "place",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff0e::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1"),
    ],
)
def test_places_that_are_not_public(place):
    assert not is_public(place)


def test_public_places():
    assert is_public("8.8.8.8")
    assert is_public("2606:4700:4700::1111")


@pytest.mark.parametrize(
    "at",
    [
        "http://127.0.0.1:9/a.png",
        "http://127.1:9/a.png",
        "http://2130706433:9/a.png",
        "http://0x7f000001:9/a.png",
        "http://localhost:9/a.png",
        "http://[::ffff:127.0.0.1]:9/a.png",
        "HTTPS://[::1]/a.png",
    ],
)
def test_this_machine_is_not_asked_however_it_is_written(at):
    with pytest.raises(ValueError, match=r"is no public address|cannot be found"):
        fetch(at)


def test_a_host_is_resolved_once_and_all_of_it_must_be_public(pictures, monkeypatch):
    """A name server that answers otherwise the second time, and one that has a private address beside a public one."""
    asked = []
    monkeypatch.setattr(address, "places_of", lambda host, port: asked.append(host) or ["127.0.0.1"])
    assert fetch(f"{pictures}/png") == encoded("png")
    assert asked == [HOST]
    monkeypatch.setattr(address, "places_of", lambda host, port: ["127.0.0.1", "10.0.0.1"])
    with pytest.raises(ValueError, match=r"pictures\.example \(10\.0\.0\.1\) is no public address"):
        fetch(f"{pictures}/png")


def test_the_next_place_is_asked_where_one_cannot_be_reached(pictures, monkeypatch):
    monkeypatch.setattr(address, "places_of", lambda host, port: ["127.0.0.3", "127.0.0.1"])
    monkeypatch.setattr(address, "is_public", lambda place: True)
    assert fetch(f"{pictures}/png") == encoded("png")


def test_no_proxy_is_asked(pictures, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(f"{pictures}/png") == encoded("png")


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("http://user:word@pictures.example/", "user's name"),
        ("http:///a.png", "no http or https address"),
        ("http://pictures.example:99999/", "no address"),
        ("http://no-such-host.invalid/a.png", "cannot be found"),
        ("https://" + "a" * 300 + "/", "no address|cannot be found"),
    ],
)
def test_addresses_that_are_none(at, sentence):
    with pytest.raises(ValueError, match=sentence):
        fetch(at)


def test_what_is_an_address():
    assert is_address("https://example.org/a.png")
    assert is_address("HTTP://example.org/a.png")
    assert not any(map(is_address, ("http.png", "file:///a.png", b"http://a", None, "a/http://b", "ftp://a/b.png")))


def test_ask_says_in_a_line_why_an_address_is_not_fetched(capsys):
    assert main(["ask", "http://127.0.0.1:9/a.png", "what?"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfvl: http://127.0.0.1:9/a.png: 127.0.0.1 is no public address")
