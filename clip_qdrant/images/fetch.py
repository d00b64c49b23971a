"""Fetching an image from a URL that somebody else may have written.

Such a URL may point into our own network. So: http(s) only; the host's name is resolved once, every address it resolves
to must be public, and it is that address we dial, so that a second answer of the name server cannot change it. Each
redirect goes through the same. No proxy is used, and no credentials or cookies are sent.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import string
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from time import monotonic
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from clip_qdrant.errors import ImageFetchError, ImageTooLargeError
from clip_qdrant.images.sources import describe_source

URL_TIMEOUT = 20.0
URL_MAX_BYTES = 32 * 2**20
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_TUNNELS = [ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32")]  # 6to4 and Teredo wrap an IPv4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch(url: str, *, timeout: float, max_bytes: int) -> bytes:
    """The body of an http(s) URL on a public address.

    Args:
        url: where to begin; up to five redirects are followed.
        timeout: seconds for all of it: resolving, connecting, redirects, the last byte.
        max_bytes: the longest body to accept.

    Raises:
        ImageFetchError: refused, failed, or not done in time.
        ImageTooLargeError: longer than `max_bytes`.
    """
    name, deadline = describe_source(url), monotonic() + timeout
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            body, url = _get(url, name, deadline, max_bytes)
            if body is not None:
                return body
        raise ImageFetchError(name, f"more than {_MAX_REDIRECTS} redirects")
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if monotonic() >= deadline:
            raise ImageFetchError(name, f"it did not answer in full within {timeout:g} seconds") from error
        raise ImageFetchError(name, f"the request failed: {error or type(error).__name__}") from error


def _get(url: str, name: str, deadline: float, max_bytes: int) -> tuple[bytes | None, str]:
    """One request: the body and the URL, or None and the URL it redirects to."""
    parts = _checked(url, name)
    connection = _PinnedConnection(parts, name, deadline)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    with connection.released():
        headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "clip-qdrant"}
        connection.request("GET", quote(path, safe=string.punctuation), headers=headers)
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                return None, urljoin(url, response.getheader("Location", ""))
            if response.status != 200:
                phrase = http.client.responses.get(response.status, "")
                raise ImageFetchError(name, f"the server answered {response.status} {phrase}".rstrip())
            if (response.length or 0) > max_bytes:
                raise _too_long(name, max_bytes)
            body = response.read(max_bytes + 1)
            missing = response.length
    if monotonic() >= deadline:  # the connection was cut, which looks like the end of a body of unstated length
        raise TimeoutError
    if len(body) > max_bytes:
        raise _too_long(name, max_bytes)
    if missing:
        raise ImageFetchError(name, f"the answer ended {missing:,} bytes early")
    return body, url


def _too_long(name: str, max_bytes: int) -> ImageTooLargeError:
    return ImageTooLargeError(name, f"the answer is longer than {max_bytes:,} bytes. Raise url_max_bytes to open it")


def _checked(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ImageFetchError(name, "it leads to a URL with a malformed host or port") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ImageFetchError(name, f"it leads to a {parts.scheme or 'relative'!r} URL. Only http and https are opened")
    if "@" in parts.netloc:
        raise ImageFetchError(name, "it leads to a URL with a user name. Credentials are not sent; remove them")
    return parts


class _PinnedConnection(http.client.HTTPConnection):
    """A connection to the addresses that were checked, whatever the name resolves to by then."""

    def __init__(self, parts: SplitResult, name: str, deadline: float) -> None:
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.default_port = 443 if self._tls else 80
        super().__init__(parts.hostname or "", parts.port or self.default_port)
        self._name, self._deadline = name, deadline
        self._watched: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def connect(self) -> None:
        """Dial the first address that answers, and set the timer that ends whatever follows at the deadline."""
        raw = self._dial()
        # A socket's timeout is one for each read, and a server may send a byte a second for ever. A timer that shuts
        # the connection down ends a handshake, headers and body alike.
        self._watched = raw.dup()
        self._timer = threading.Timer(_remaining(self._deadline), _shut, [self._watched])
        self._timer.daemon = True
        self._timer.start()
        self.sock = self._tls.wrap_socket(raw, server_hostname=self.host) if self._tls else raw

    def _dial(self) -> socket.socket:
        failure: OSError | None = None
        for address in _public_addresses(self.host, self.port, self._name, self._deadline):
            try:
                return socket.create_connection((address, self.port), timeout=_remaining(self._deadline))
            except OSError as error:
                failure = error
        raise failure or OSError("the name has no address")

    @contextmanager
    def released(self) -> Iterator[None]:
        """Close everything at the end; `close` alone is called by http.client while the body is still being read."""
        try:
            yield
        finally:
            if self._timer is not None and self._watched is not None:
                self._timer.cancel()
                self._watched.close()
            self.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have been closed at this very moment
        connection.shutdown(socket.SHUT_RDWR)


def _remaining(deadline: float) -> float:
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _public_addresses(host: str, port: int, name: str, deadline: float) -> list[str]:
    addresses = _resolve(host, port, deadline)
    for address in addresses:
        if not _is_public(address):
            raise ImageFetchError(
                name, f"{host!r} is at {address}, which is not a public address. Fetch it yourself and pass the bytes"
            )
    return addresses


def _resolve(host: str, port: int, deadline: float) -> list[str]:
    """The host's addresses. The system's resolver takes no timeout, so a thread asks it, which may be left behind."""
    answers: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(row[4][0]) for row in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_remaining(deadline))
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, list):
        return answer
    raise answer


def _is_public(address: str) -> bool:
    """Whether an address is on the public internet; an IPv4 wrapped in an IPv6 is judged as the IPv4 that it is."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _GLOBAL_UNICAST or any(ip in tunnel for tunnel in _TUNNELS):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)
