"""URLs, against a server on this machine; what counts as public is the one thing replaced."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageFetchError, ImageTooLargeError
from clip_qdrant.images import content_hash, decode_ahead, fetch, open_image
from tests.image_corpus import encode, quadrants

PNG = encode(quadrants(), "PNG")
STOP = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.seen.append((self.path, dict(self.headers)))
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.server.targets[path[4:]])
            self.end_headers()
        elif path == "/drip":
            self.send_response(200)
            self.end_headers()
            self.drip(b"x")
        elif path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", "1000000000000")
            self.end_headers()
            self.drip(b"x")
        elif path == "/drip-headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            self.drip(b"X-A: b\r\n")
        elif path in ("/a.png", "/%E5%AE%B6.png"):
            self.answer(PNG, len(PNG))
        elif path == "/unstated":
            self.answer(PNG, None)
        elif path == "/short":
            self.answer(PNG[:50], len(PNG))
        elif path == "/text":
            self.answer(b"dear diary", 10)
        else:
            self.send_error(404)

    def answer(self, body, length):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data):
        try:
            while not STOP.wait(0.02):
                self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *_args):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    STOP.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.targets = [], {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1")
    yield server
    STOP.set()
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_port}{path}"


def reason(source: str, error: type = ImageFetchError, **options) -> str:
    with pytest.raises(error) as caught:
        open_image(source, allow_url=True, **options)
    assert type(caught.value) is error
    return caught.value.reason


@pytest.mark.parametrize("path", ["/a.png", "/a.png?size=9&x=%20", "/unstated", "/家.png"])
def test_a_url_opens_when_asked(server, path):
    assert open_image(url(server, path), allow_url=True).tobytes() == quadrants().tobytes()
    [(asked, headers)] = server.seen
    assert asked == path.replace("家", "%E5%AE%B6")
    assert headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert "Authorization" not in headers and "Cookie" not in headers


def test_decode_ahead_passes_the_permission_on(server):
    good, refused = [url(server, "/a.png")], "URLs are not opened unless asked. Pass allow_url=True"
    assert [image.size for image in decode_ahead(good, allow_url=True)] == [(64, 48)]
    assert [error.reason for error in decode_ahead(good)] == [refused]
    assert len(server.seen) == 1


def test_redirects_are_followed_up_to_five(server):
    for hop in range(1, 7):
        server.targets[str(hop)] = f"/to/{hop - 1}" if hop % 2 else url(server, f"/to/{hop - 1}")
    server.targets["0"] = "/a.png"
    assert open_image(url(server, "/to/4"), allow_url=True).size == (64, 48)
    assert reason(url(server, "/to/5")) == "more than 5 redirects"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://127.0.0.2/a.png", "'127.0.0.2' is at 127.0.0.2, which is not a public address."),
        ("http://169.254.169.254/latest/meta-data", "'169.254.169.254' is at 169.254.169.254, which is not a public"),
        ("http://[::1]/a.png", "'::1' is at ::1, which is not a public address."),
        ("file:///etc/passwd", "it leads to a 'file' URL. Only http and https are opened"),
        ("ftp://host/a.png", "it leads to a 'ftp' URL. Only http and https are opened"),
        ("http://me:secret@127.0.0.1/a.png", "it leads to a URL with a user name. Credentials are not sent"),
        ("http://127.0.0.1:99999/", "it leads to a URL with a malformed host or port"),
    ],
)
def test_a_redirect_to_where_we_may_not_go_is_refused(server, target, expected):
    server.targets["x"] = target
    said = reason(url(server, "/to/x"))
    assert said.startswith(expected)
    assert "secret" not in said
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]"],
)
def test_this_machine_is_refused_under_every_name(server, host, monkeypatch):
    monkeypatch.undo()
    assert "which is not a public address. Fetch it yourself and pass the bytes" in reason(url(server, "/a.png", host))
    assert server.seen == []


@pytest.mark.parametrize(
    "address",
    """0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1 192.0.2.1 192.168.1.1 198.18.0.1
    224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::127.0.0.1 fc00::1 fd12::1
    fe80::1 fe80::1%1 fec0::1 ff02::1 2001:db8::1 2002:7f00:1:: 2001:0:1::1 64:ff9b::a00:1 64:ff9b::7f00:1
    64:ff9b:1::1 100::1""".split(),
)
def test_addresses_that_are_not_public(address):
    assert not fetch._is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address):
    assert fetch._is_public(address)


def answers(monkeypatch, *addresses: str) -> list[str]:
    """Let every name resolve to these; returns the names that were asked for."""
    asked, real = [], socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        if host.endswith(".test"):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
        assert host.replace(".", "").isdigit(), f"{host} was resolved a second time"
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_is_resolved_once_and_that_address_is_dialled(server, monkeypatch):
    asked = answers(monkeypatch, "127.0.0.1")
    assert open_image(url(server, "/a.png", "photos.test"), allow_url=True).size == (64, 48)
    assert asked == ["photos.test"]
    assert server.seen[0][1]["Host"] == f"photos.test:{server.server_port}"


def test_one_private_address_among_public_ones_is_enough_to_refuse(server, monkeypatch):
    answers(monkeypatch, "127.0.0.1", "10.0.0.1")
    assert reason(url(server, "/a.png", "photos.test")).startswith(
        "'photos.test' is at 10.0.0.1, which is not a public"
    )
    assert server.seen == []


def test_https_checks_the_certificate_of_the_name_not_of_the_address(server, monkeypatch):
    answers(monkeypatch, "127.0.0.1")
    names = []

    class Context:
        def wrap_socket(self, raw, server_hostname):
            names.append(server_hostname)
            return raw

    dialled, real = [], socket.create_connection

    def dial(address, timeout):
        dialled.append((address, 0 < timeout <= 5))
        return real(server.server_address, timeout)

    monkeypatch.setattr(socket, "create_connection", dial)
    monkeypatch.setattr(ssl, "create_default_context", Context)
    assert open_image("https://photos.test/a.png", allow_url=True, url_timeout=5).size == (64, 48)
    assert names == ["photos.test"]
    assert dialled == [(("127.0.0.1", 443), True)]
    assert server.seen[0][1]["Host"] == "photos.test"


def test_a_server_that_does_not_speak_tls_is_a_failure(server):
    assert reason(url(server, "/a.png").replace("http:", "https:")).startswith("the request failed: ")


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_the_time_limit_is_for_the_whole_answer(server, path):
    assert reason(url(server, path), url_timeout=0.3) == "it did not answer in full within 0.3 seconds"


def test_the_time_limit_holds_for_a_server_that_says_nothing_and_for_the_resolver(monkeypatch):
    monkeypatch.setattr(fetch, "_is_public", lambda address: True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        late = "it did not answer in full within 0.2 seconds"
        assert reason(f"http://127.0.0.1:{port}/", url_timeout=0.2) == late
        assert reason(f"https://127.0.0.1:{port}/", url_timeout=0.2) == late
        release = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: release.wait(5) and [])
        assert reason("http://slow.test/", url_timeout=0.2) == late
        release.set()


@pytest.mark.parametrize("path", ["/a.png", "/unstated"])
def test_the_size_limit_is_inclusive_and_holds_without_a_stated_length(server, path):
    too_long = f"the answer is longer than {len(PNG) - 1:,} bytes. Raise url_max_bytes to open it"
    assert reason(url(server, path), ImageTooLargeError, url_max_bytes=len(PNG) - 1) == too_long
    assert open_image(url(server, path), allow_url=True, url_max_bytes=len(PNG)).size == (64, 48)


def test_a_stated_length_over_the_limit_is_refused_before_it_is_read(server):
    assert reason(url(server, "/huge"), ImageTooLargeError, url_timeout=5).startswith(
        "the answer is longer than 33,554,432"
    )


def test_what_else_a_server_may_answer(server):
    assert reason(url(server, "/none.png")) == "the server answered 404 Not Found"
    assert reason(url(server, "/short")) == f"the answer ended {len(PNG) - 50:,} bytes early"
    assert reason(url(server, "/text"), ImageDecodeError).startswith("its first bytes b'dear dia' are of no known")


def test_a_failure_names_the_url_without_its_secrets(server):
    with pytest.raises(ImageFetchError) as caught:
        open_image(url(server, "/none.png?token=secret"), allow_url=True)
    assert caught.value.source == url(server, "/none.png")
    assert "secret" not in str(caught.value)


def test_names_that_cannot_be_resolved_and_ports_nobody_listens_on(monkeypatch):
    monkeypatch.setattr(fetch, "_is_public", lambda address: True)
    assert reason("http://a..b/").startswith("the request failed: ")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = reason(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert refused.startswith("the request failed: ") and refused.endswith("Connection refused")
    assert reason("http://[::1/") == "it leads to a URL with a malformed host or port"
    assert reason("http://host:secret/") == "it leads to a URL with a malformed host or port"
    assert reason("http://").startswith("it leads to a 'http' URL.")


def test_nothing_is_asked_of_the_network_without_need(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: pytest.fail("the network was asked"))
    with pytest.raises(ConfigError):
        open_image("http://photos.test/a.png", allow_url=True, url_timeout=0)
    with pytest.raises(ImageFetchError, match="a URL has no content to hash"):
        content_hash("http://photos.test/a.png")
