"""The guarded fetcher against an attacking server on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from plateblur.web.fetcher import REFUSED, FetchError, PhotoFetcher, Reach, is_public
from tests.web.fakes import PHOTO_URL_PATH, make_stand, photo_bytes, text_of

pytestmark = pytest.mark.anyio

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
PHOTO = photo_bytes()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sending(answer: bytes) -> Handler:
    async def handle(request: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return handle


@asynccontextmanager
async def attacker(
    handle: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve `handle` on a free port of loopback; give that port and the requests seen."""
    seen: list[str] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = ""
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            seen.append(request)
            await handle(request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            seen.append(request)
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


def resolving(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """Return a resolver that gives one of `answers` after the other, then the last again."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


def fetcher_to(port: int, *, timeout_s: float = 5, max_bytes: int = 100_000) -> PhotoFetcher:
    """Return a fetcher for which every name is 127.0.0.1, allowed on `port` alone."""
    return PhotoFetcher(
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        reach=Reach(also=((ipaddress.ip_network("127.0.0.1/32"), port),)),
        resolve=resolving(["127.0.0.1"]),
    )


async def test_a_photo_is_fetched_by_the_name_in_the_url() -> None:
    async with attacker(sending(ok(PHOTO, f"Content-Length: {len(PHOTO)}"))) as (port, seen):
        assert await fetcher_to(port).fetch(f"http://photos.example:{port}/a.jpg?x=1") == PHOTO
    assert seen[0].startswith("GET /a.jpg?x=1 HTTP/1.1\r\n")
    assert f"Host: photos.example:{port}\r\n" in seen[0]
    assert "cookie" not in seen[0].lower()
    assert "authorization" not in seen[0].lower()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - an address to be refused, not to be bound
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
async def test_addresses_outside_the_public_net_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    fetcher = PhotoFetcher(timeout_s=2, max_bytes=10, resolve=resolving([address]))
    with pytest.raises(FetchError, match=REFUSED):
        await fetcher.fetch("http://innocent.example/a.jpg")


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.15.255.255", "172.32.0.0", "100.128.0.0", "2606:4700::1111"]
)
def test_addresses_just_outside_the_refused_ones_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.01",
        "127.1",
        "0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "①②⑦.0.0.1",
    ],
)
async def test_no_spelling_of_loopback_gets_through_the_real_resolver(host: str) -> None:
    async with attacker(sending(ok(PHOTO))) as (port, seen):
        fetcher = PhotoFetcher(timeout_s=5, max_bytes=100_000, reach=Reach(ports=(port,)))
        with pytest.raises(FetchError):
            await fetcher.fetch(f"http://{host}:{port}/a.jpg")
    assert seen == []


@pytest.mark.parametrize(
    "addresses",
    [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["8.8.8.8", "fe80::1"], []],
    ids=["last is bad", "first is bad", "IPv6 is bad", "none"],
)
async def test_one_bad_address_of_a_name_is_enough_to_refuse_it(addresses: list[str]) -> None:
    fetcher = PhotoFetcher(timeout_s=2, max_bytes=10, resolve=resolving(addresses))
    with pytest.raises(FetchError, match=REFUSED):
        await fetcher.fetch("http://mixed.example/")


async def test_a_name_is_looked_up_once_so_that_it_cannot_change_in_between() -> None:
    async with attacker(sending(ok(PHOTO))) as (port, seen):
        asked: list[str] = []

        async def resolve(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        reach = Reach(also=((ipaddress.ip_network("127.0.0.1/32"), port),))
        fetcher = PhotoFetcher(timeout_s=5, max_bytes=100_000, reach=reach, resolve=resolve)
        assert await fetcher.fetch(f"http://rebind.example:{port}/") == PHOTO
    assert asked == ["rebind.example"]
    assert len(seen) == 1


async def test_a_name_that_changes_before_a_redirect_is_checked_again() -> None:
    async with attacker(sending(b"HTTP/1.1 302 Found\r\nLocation: /b.jpg\r\n\r\n")) as (port, seen):
        reach = Reach(also=((ipaddress.ip_network("127.0.0.1/32"), port),))
        fetcher = PhotoFetcher(
            timeout_s=5,
            max_bytes=100_000,
            reach=reach,
            resolve=resolving(["127.0.0.1"], ["169.254.169.254"]),
        )
        with pytest.raises(FetchError, match=REFUSED):
            await fetcher.fetch(f"http://rebind.example:{port}/a.jpg")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://169.254.169.254/latest/meta-data/", "port|may not be fetched"),
        ("file:///etc/passwd", "must start with http"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "must start with http"),
        ("http://user:secret@photos.example/", "credentials"),
        ("http://photos.example:22/", "port"),
        ("//[::1]:22/", "port"),
        ("http://[bad", "not valid|may not be fetched"),
        ("/a.jpg", "leads on more than"),
    ],
    ids=["metadata", "file", "gopher", "credentials", "ssh", "no scheme", "broken", "circle"],
)
async def test_a_redirect_is_checked_like_the_first_url(location: str, message: str) -> None:
    def resolve_by_name(host: str) -> list[str]:
        return [host] if host[0].isdigit() else ["127.0.0.1"]

    async def resolve(host: str, port: int) -> list[str]:
        return resolve_by_name(host)

    answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    async with attacker(sending(answer)) as (port, seen):
        reach = Reach(also=((ipaddress.ip_network("127.0.0.1/32"), port),))
        fetcher = PhotoFetcher(timeout_s=5, max_bytes=100_000, reach=reach, resolve=resolve)
        with pytest.raises(FetchError, match=message):
            await fetcher.fetch(f"http://photos.example:{port}/a.jpg")
    assert len(seen) == (4 if location == "/a.jpg" else 1)


@pytest.mark.parametrize(
    "name", ["straße/写真.jpg".encode(), b"stra\xdfe.jpg"], ids=["utf-8", "latin-1"]
)
async def test_a_redirect_that_is_not_escaped_is_followed(name: bytes) -> None:
    async def handle(request: str, writer: asyncio.StreamWriter) -> None:
        moved = b"HTTP/1.1 301 Moved\r\nLocation: /" + name + b"\r\nContent-Length: 0\r\n\r\n"
        writer.write(moved if "/a.jpg" in request else ok(PHOTO))

    async with attacker(handle) as (port, seen):
        assert await fetcher_to(port).fetch(f"http://photos.example:{port}/a.jpg") == PHOTO
    assert "/stra%C3%9Fe" in seen[1]


async def test_white_space_around_a_url_is_trimmed() -> None:
    async with attacker(sending(ok(PHOTO))) as (port, seen):
        url = f" \t\r\n http://photos.example:{port}/a.jpg \n"
        assert await fetcher_to(port).fetch(url) == PHOTO
    assert len(seen) == 1


async def test_a_redirect_to_the_photo_is_followed() -> None:
    async def handle(request: str, writer: asyncio.StreamWriter) -> None:
        moved = b"HTTP/1.1 301 Moved\r\nLocation: /b.jpg\r\nContent-Length: 0\r\n\r\n"
        writer.write(moved if "/a.jpg" in request else ok(PHOTO))

    async with attacker(handle) as (port, seen):
        assert await fetcher_to(port).fetch(f"http://photos.example:{port}/a.jpg") == PHOTO
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must start"),
        ("street.jpg", "must start"),
        ("/etc/passwd", "must start"),
        ("file:///etc/passwd", "must start"),
        ("ftp://a.example/a.jpg", "must start"),
        ("data:image/jpeg;base64,AAAA", "must start"),
        ("unix:///run/docker.sock", "must start"),
        ("http://", "must start"),
        ("http:///a.jpg", "must start"),
        ("http://u:p@a.example/a.jpg", "credentials"),
        ("http://a.example\\@127.0.0.1/", "credentials|not valid"),
        ("http://a.example:22/", "port"),
        ("http://a.example:99999/", "not valid|port"),
        ("http://a.example/\r\nX: y", "not valid"),
        ("http://a.example/" + "a" * 2048, "longer than"),
        ("http://[::1", "not valid"),
    ],
)
async def test_a_url_that_is_none_of_ours_is_refused_before_any_look_up(
    url: str, message: str
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    fetcher = PhotoFetcher(timeout_s=2, max_bytes=10, resolve=resolve)
    with pytest.raises(FetchError, match=message):
        await fetcher.fetch(url)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ok(b"x" * 2000), "more than 1000 bytes"),
        (ok(b"x", "Content-Length: 2000"), "more than 1000 bytes"),
        (ok(b"x", "Content-Length: 10"), "could not be reached"),
        (ok(b"7d0\r\n" + b"x" * 2000, "Transfer-Encoding: chunked"), "more than 1000 bytes"),
        (ok(b"\x1f\x8b", "Content-Encoding: gzip"), "compressed"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "leads on"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "could not be reached"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, "could not be reached"),
        (b"", "could not be reached"),
    ],
    ids=[
        "endless",
        "too long, said so",
        "shorter than said",
        "too long in chunks",
        "gzip",
        "404",
        "204",
        "redirect to nowhere",
        "no HTTP",
        "header bomb",
        "hangs up",
    ],
)
async def test_an_answer_that_is_no_photo_within_the_limits_is_refused(
    answer: bytes, message: str
) -> None:
    async with attacker(sending(answer)) as (port, _):
        with pytest.raises(FetchError, match=message):
            await fetcher_to(port, max_bytes=1000).fetch(f"http://photos.example:{port}/")


@pytest.mark.slow
async def test_a_host_that_drips_is_left_in_time() -> None:
    drips: list[int] = []

    async def handle(request: str, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b""))
        for number in range(200):
            drips.append(number)
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with attacker(handle) as (port, _):
        with pytest.raises(FetchError, match=r"longer than 0\.5 s"):
            await fetcher_to(port, timeout_s=0.5).fetch(f"http://photos.example:{port}/")
        assert len(drips) < 100  # not to the end, however slow the machine


@pytest.mark.slow
async def test_a_resolver_that_hangs_is_left_in_time() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return []

    with pytest.raises(FetchError, match="longer than"):
        await PhotoFetcher(timeout_s=0.2, max_bytes=10, resolve=resolve).fetch("http://a.example/")


async def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with attacker(sending(ok(PHOTO))) as (port, _):
        assert await fetcher_to(port).fetch(f"http://photos.example:{port}/") == PHOTO


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return certificate and key of photos.example, which only a test would trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=photos.example", "-addext", "subjectAltName=DNS:photos.example"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.parametrize(
    ("host", "trusted", "works"),
    [
        ("photos.example", True, True),
        ("other.example", True, False),
        ("photos.example", False, False),
    ],
    ids=["its name", "another name", "an unknown authority"],
)
async def test_tls_is_checked_against_the_name_in_the_url(
    certificate: tuple[str, str], host: str, trusted: bool, works: bool
) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    async with attacker(sending(ok(PHOTO)), tls=serving) as (port, _):
        fetcher = fetcher_to(port)
        if trusted:
            fetcher = replace(fetcher, tls=ssl.create_default_context(cafile=certificate[0]))
        if works:
            assert await fetcher.fetch(f"https://{host}:{port}/") == PHOTO
        else:
            with pytest.raises(FetchError, match="could not be reached"):
                await fetcher.fetch(f"https://{host}:{port}/")


@pytest.mark.slow
async def test_a_handshake_that_hangs_is_left_in_time_and_leaves_no_socket() -> None:
    async with attacker(sending(b"")) as (port, _):
        with pytest.raises(FetchError, match="longer than"):
            await fetcher_to(port, timeout_s=0.5).fetch(f"https://photos.example:{port}/")


class TestThroughTheEndpoint:
    @pytest.mark.parametrize(
        ("body", "cd"),
        [(PHOTO, None), (b"<html>root:x:0:0</html>", "1014"), (b"", "1014")],
        ids=["photo", "page", "nothing"],
    )
    async def test_what_is_fetched_is_sniffed(self, body: bytes, cd: str | None) -> None:
        async with attacker(sending(ok(body, "Content-Type: image/jpeg"))) as (port, _):
            stand = make_stand(fetcher=fetcher_to(port))
            url = f"http://photos.example:{port}{PHOTO_URL_PATH}"
            answer = await stand.post({"photo_url": url, "base64_Photo_String": "NO"})
        if cd is None:
            assert answer.json()["final_photo"] == text_of(PHOTO)
        else:
            assert answer.json()[0]["cd"] == cd
            assert "root" not in answer.text
            assert stand.gate.requests == 0

    async def test_a_refusal_is_1014_and_says_nothing_of_the_inside(self) -> None:
        answer = await make_stand().post({"photo_url": "http://127.0.0.1/a.jpg"})
        assert answer.json()[0]["cd"] == "1014"
        assert REFUSED in answer.json()[0]["description"]
