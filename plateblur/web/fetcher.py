"""Fetch a photo from a URL that a stranger chose, reaching only the public internet.

Written on httpcore (what httpx itself sends with) and not on safehttpx, which comes with Gradio.
safehttpx 0.1.7 lets 100.64.0.0/10 and 6to4 through, asks dns.google about names without a public
address, obeys the proxy variables of the environment, follows no redirect, and limits neither the
size of a response nor its total time. Here, the check is where the connection is made:
`GuardedBackend` resolves the name once, checks every address, and connects to one of the checked
addresses. So there is no second look-up that could return something else, and the spelling of the
host doesn't matter.

Names are resolved with dnspython and not with the system's `getaddrinfo`, which blocks a thread
until the answer arrives, even if nobody waits for it any more: a few name servers that never answer
would stop all look-ups. A dnspython look-up ends when it is cancelled. It ignores the hosts file
and the system's search domain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import httpcore
import httpx

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]
Keep = Callable[[bytes], Awaitable[None]]

MAX_URL_CHARS = 2048  # Source: what browsers and proxies agree on.
MAX_REDIRECTS = 3  # A photo's host needs one or two: to https, to its CDN.
MIN_BYTES_S = 1024**2  # Of what is beyond a usual photo: 8 Mbit/s, little for a photo's host.
LOOK_UP_S = 3.0  # Name servers answer in well under one; for both kinds of address together.
MAX_CONNECTS = 2  # Addresses tried of a name; more would let a name with many eat the time.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# Source: IANA special-purpose address registries, RFC 6890 and later. Spelt out, because
# `ipaddress.is_global` differs between patch releases of Python.
NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",  # Link-local, with the metadata services of the clouds.
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # Source: Azure's documentation; its host agent, on a public address.
    )
)
PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All global unicast; outside are loopback, mapped, NAT64, unique-local, link-local, multicast."""
NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and the rest of the protocol assignments.
        "2001:db8::/32",
        "2002::/16",  # 6to4: holds an IPv4 address.
        "3fff::/20",
    )
)

REFUSED: Final = "The URL may not be fetched."


class FetchError(Exception):
    """The photo could not be fetched; the message may be shown to the client."""


def is_public(address: IPAddress) -> bool:
    """Return whether `address` is one of the public net, and holds no other inside it."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    return address in PUBLIC_V6 and not any(address in network for network in NOT_PUBLIC_V6)


async def resolve_by_dns(
    host: str, port: int, *, nameservers: Sequence[str] = (), timeout_s: float = LOOK_UP_S
) -> list[str]:
    """Return the addresses that DNS has for `host`, or `host` itself where it is an address.

    Args:
        host: ASCII, as in a URL; never completed with the system's own domain.
        port: not asked about.
        nameservers: as in the settings; those of the system where empty.
        timeout_s: for all of it.

    Raises:
        OSError: unknown, no address, or no answer in time.
    """
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host.strip("[]")))]
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(*name_server(text)) for text in nameservers
            ]
        name = dns.name.from_text(host)
        found = await asyncio.gather(
            *(
                resolver.resolve(name, kind, search=False, lifetime=timeout_s)
                for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)
            ),
            return_exceptions=True,
        )
    except dns.exception.DNSException as error:
        raise OSError("the name can't be looked up") from error
    addresses = [
        record.address
        for answer in found
        if isinstance(answer, dns.resolver.Answer)
        for record in answer
    ]
    if not addresses:
        raise OSError("the name has no address")
    return addresses


def name_server(text: str) -> tuple[str, int]:
    """Return the address and port in ADDRESS or ADDRESS:PORT, an IPv6 address in brackets.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(f"//{text}")
    return str(ipaddress.ip_address(parts.hostname or "")), parts.port or 53


@dataclass(frozen=True, slots=True)
class Reach:
    """What the fetcher may connect to.

    Attributes:
        ports: that a URL may name.
        also: networks that are allowed on one port each although they are not public; for tests.
    """

    ports: tuple[int, ...] = (80, 443)
    also: tuple[tuple[IPNetwork, int], ...] = ()

    def allows(self, address: IPAddress, port: int) -> bool:
        """Return whether a connection to `address` and `port` may be made."""
        if any(address in network and port == allowed for network, allowed in self.also):
            return True
        return port in self.ports and is_public(address)

    def allows_port(self, port: int) -> bool:
        """Return whether any address could be reached on `port`."""
        return port in self.ports or any(port == allowed for _, allowed in self.also)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only; the only place where the fetcher opens a socket.

    To be closed after use: httpcore leaves a socket open whose TLS handshake is cancelled.
    """

    def __init__(self, *, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def aclose(self) -> None:
        """Close what was opened."""
        for stream in self._opened:
            await stream.aclose()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to one of `host`'s addresses, all of which were checked.

        Raises:
            FetchError: the name is unknown, or one of its addresses is not allowed. Both say the
                same, because a stranger must not learn which internal names exist.
            httpcore.ConnectError: none of the addresses answered.
        """
        try:
            found = await self._resolve(host, port)
            addresses = [ipaddress.ip_address(text) for text in found]
        except (OSError, ValueError) as error:  # UnicodeError of a bad name is a ValueError.
            raise FetchError(REFUSED) from error
        if not addresses or not all(self._reach.allows(address, port) for address in addresses):
            raise FetchError(REFUSED)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses[:MAX_CONNECTS]:
            try:
                stream = await self._sockets.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                self._opened.append(stream)
                return stream
        raise failed or httpcore.ConnectError

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL leads to a socket in the file system."""
        raise FetchError(REFUSED)

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it."""
        await asyncio.sleep(seconds)


@cache
def system_tls() -> ssl.SSLContext:
    """Return the check of certificates against the system's authorities; loaded once."""
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Download:
    """Where a body goes, and how long and how late it may be.

    Attributes:
        keep: is given each chunk.
        max_bytes: the most that are taken.
        usual_bytes: beyond them the time limit grows.
        limit: of the whole fetch.
    """

    keep: Keep
    max_bytes: int
    usual_bytes: int
    limit: asyncio.Timeout

    async def read(self, response: httpcore.Response, *, announced: bytes) -> None:
        """Read the body of `response`.

        Raises:
            FetchError: it is too long.
        """
        too_long = f"The photo has more than {self.max_bytes} bytes."
        if announced.isdigit() and int(announced) > self.max_bytes:
            raise FetchError(too_long)
        received = 0
        async for chunk in response.aiter_stream():
            received += len(chunk)
            if received > self.max_bytes:
                raise FetchError(too_long)
            if received > self.usual_bytes:
                self.limit.reschedule((self.limit.when() or 0) + len(chunk) / MIN_BYTES_S)
            await self.keep(chunk)


@dataclass(frozen=True, slots=True)
class PhotoFetcher:
    """Fetches photos; holds nothing of a fetch once it is over: no cookies, no kept connections.

    Attributes:
        timeout_s: for the whole fetch, with its redirects.
        max_bytes: of a usual photo.
        reach: what may be connected to.
        resolve: a host's addresses.
        tls: how certificates are checked.
    """

    timeout_s: float
    max_bytes: int
    reach: Reach = field(default_factory=Reach)
    resolve: Resolve = resolve_by_dns
    tls: ssl.SSLContext = field(default_factory=system_tls)

    async def fetch(self, url: str) -> bytes:
        """Return the bytes behind `url`, whatever they are.

        Raises:
            FetchError: the URL may not be fetched, or its host gave no photo within the limits.
        """
        body = bytearray()

        async def keep(chunk: bytes) -> None:
            body.extend(chunk)

        await self.fetch_into(keep, url, max_bytes=self.max_bytes)
        return bytes(body)

    async def fetch_into(self, keep: Keep, url: str, *, max_bytes: int) -> None:
        """Hand the bytes behind `url` on as they arrive.

        Args:
            keep: is given each chunk.
            url: as a stranger sent it.
            max_bytes: the most that are taken. What is beyond the fetcher's own `max_bytes` has
                more time, at `MIN_BYTES_S`.

        Raises:
            FetchError: the URL may not be fetched, or its host gave no photo within the limits.
        """
        with _faults("photo", self.timeout_s):
            async with asyncio.timeout(self.timeout_s) as limit:
                await self._follow(url, Download(keep, max_bytes, self.max_bytes, limit))

    def check(self, url: str) -> None:
        """Refuse what could never be fetched or sent to, without asking anyone.

        Raises:
            FetchError: no usable URL.
        """
        self._checked(url)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send `body` to `url`, and return the status of the answer; the rest of it isn't read.

        The same addresses are refused as for photos, and no redirect is followed.

        Raises:
            FetchError: the URL may not be used, or its host didn't answer in time.
        """
        checked = self._checked(url)
        sent = [
            (b"Host", checked.netloc),
            (b"User-Agent", b"PlateBlur"),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        with _faults("receiver", self.timeout_s):
            async with (
                asyncio.timeout(self.timeout_s),
                aclosing(GuardedBackend(reach=self.reach, resolve=self.resolve)) as backend,
                httpcore.AsyncConnectionPool(ssl_context=self.tls, network_backend=backend) as pool,
                pool.stream("POST", _target(checked), headers=sent, content=body) as response,
            ):
                return response.status

    async def _follow(self, url: str, download: Download) -> None:
        current = self._checked(url)
        for _ in range(MAX_REDIRECTS + 1):
            got = await self._get(current, download)
            if got is None:
                return
            following = self._checked(got, base=current)
            if current.scheme == "https" and following.scheme == "http":
                raise FetchError("The URL leads from https back to http.")
            current = following
        raise FetchError(f"The URL leads on more than {MAX_REDIRECTS} times.")

    def _checked(self, text: str, *, base: httpx.URL | None = None) -> httpx.URL:
        text = text.strip()
        if len(text) > MAX_URL_CHARS:
            raise FetchError(f"The URL is longer than {MAX_URL_CHARS} characters.")
        try:
            url = base.join(text) if base else httpx.URL(text)
            port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
            # Decoding the host's name can fail too: an IDNAError, which is a ValueError.
            has_host = bool(url.host and url.raw_host)
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchError("The URL is not valid.") from error
        if url.scheme not in {"http", "https"} or not has_host:
            raise FetchError("The URL must start with http:// or https://.")
        if url.userinfo:
            raise FetchError("The URL must not hold credentials.")
        if not self.reach.allows_port(port):
            raise FetchError("The URL names a port that may not be used.")
        return url

    async def _get(self, url: httpx.URL, download: Download) -> str | None:
        """Return where the answer leads, or None where it is the photo, which was downloaded."""
        headers = [
            (b"Host", url.netloc),
            (b"User-Agent", b"PlateBlur"),
            (b"Accept", b"image/*"),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
        ]
        async with (
            aclosing(GuardedBackend(reach=self.reach, resolve=self.resolve)) as backend,
            httpcore.AsyncConnectionPool(ssl_context=self.tls, network_backend=backend) as pool,
            pool.stream("GET", _target(url), headers=headers) as response,
        ):
            answered = {name.lower(): value for name, value in response.headers}
            if response.status in REDIRECTS:
                return _location(answered.get(b"location", b""))
            if response.status != httpx.codes.OK:
                raise FetchError(f"The host of the photo answered {response.status}.")
            if answered.get(b"content-encoding", b"identity").lower() != b"identity":
                raise FetchError("The host of the photo sent it compressed.")
            await download.read(response, announced=answered.get(b"content-length", b""))
            return None


@contextmanager
def _faults(what: str, timeout_s: float) -> Iterator[None]:
    """Tell what went wrong on the way to the host of `what`."""
    try:
        yield
    except TimeoutError as error:
        raise FetchError(f"The {what} took longer than {timeout_s:g} s.") from error
    except httpcore.TimeoutException as error:
        raise FetchError(f"The host of the {what} did not answer in time.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
        raise FetchError(f"The host of the {what} could not be reached.") from error


def _target(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _location(header: bytes) -> str:
    """Return where a redirect leads; many servers send UTF-8 as it is, which RFC 9110 forbids."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")
