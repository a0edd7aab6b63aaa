"""Hostile requests to the API: each sends one, and says in a few words what came back."""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms

from plateblur.drawn.scene import draw_scene

DOCUMENTED, MODERN = "/plateblurer.aspx", "/v1/blur"
LIMIT = 5 * 1024 * 1024
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Service:
    """The running service.

    Attributes:
        port: on loopback.
        pid: of its first process.
        attackers: `Authorization` headers of hostile accounts.
        others: those of the client beside them.
        folder: where it keeps its data.
    """

    port: int
    pid: int
    attackers: list[str]
    others: list[str]
    folder: Path

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    def attacker(self) -> str:
        """Return some hostile account's header."""
        return random.choice(self.attackers)  # noqa: S311 - no secret

    def post(
        self, path: str, body: bytes, *, media_type: str = "application/json", authorization: str
    ) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            headers = {"Authorization": authorization, "Content-Type": media_type}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    Attributes:
        item: its number in the issue that asked for it.
        what: in a line.
        once: sends one request; returns what came back.
        times: how many.
        at_once: how many of them in parallel.
        mixes: whether it goes with the others, or would be slowed as a guesser of passwords.
    """

    item: str
    what: str
    once: Callable[[Service], str]
    times: int = 48
    at_once: int = 4
    mixes: bool = True


def summary(answer: tuple[int, bytes]) -> str:
    """Return what an answer says, in a few words that many answers share."""
    status, body = answer
    size = f"{len(body) / 1e6:.1f} MB" if len(body) > 100_000 else "short"
    if body.startswith(b'{"created"') or not body.startswith((b"{", b"[")):
        return f"{status} photo, {size}"
    parsed = json.loads(body)
    error = parsed[0] if isinstance(parsed, list) else parsed
    return f"{status} {error.get('cd', error.get('status'))}, {size}"


@cache
def many_objects() -> bytes:
    """Return 5 MB of JSON that would become 1.7 million Python objects."""
    start, item, end = b'{"base64_Photo_String": "QUJD", "x": [{}', b",{}", b"]}"
    return start + item * ((LIMIT - len(start) - len(end)) // len(item)) + end


def objects_in_a_refused_body(service: Service) -> str:
    """Send very many small JSON objects in a field that nobody asked for."""
    path = random.choice([DOCUMENTED, MODERN])  # noqa: S311 - no secret
    return summary(service.post(path, many_objects(), authorization=service.attacker()))


@cache
def many_keys() -> bytes:
    """Return 5 MB of JSON with as many different keys as fit."""
    keys: list[str] = []
    size = 0
    while size < LIMIT - 64:
        keys.append(f'"{len(keys):x}":0')
        size += len(keys[-1]) + 1
    return ("{" + ",".join(keys) + "}").encode()


def unknown_keys(service: Service) -> str:
    """Send very many unknown keys to the endpoint that refuses unknown keys."""
    return summary(service.post(MODERN, many_keys(), authorization=service.attacker()))


def form_fields(service: Service) -> str:
    """Send very many unknown fields of a form."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n'
    body = part * (LIMIT // len(part) - 1) + b"--b--\r\n"
    form = "multipart/form-data; boundary=b"
    return summary(service.post(MODERN, body, media_type=form, authorization=service.attacker()))


def endless_prefix(service: Service) -> str:
    """Send a `data:` prefix that does not end."""
    path, name = random.choice(  # noqa: S311 - no secret
        [(DOCUMENTED, "base64_Photo_String"), (MODERN, "photo")]
    )
    body = json.dumps({name: "data:" + ";" * (LIMIT - 100)}).encode()
    return summary(service.post(path, body, authorization=service.attacker()))


@cache
def street_with_a_profile() -> bytes:
    """Return a drawn photo of many plates that carries a colour profile of 2.5 MB."""
    scenes = [draw_scene(seed, plates=3).image for seed in range(16)]
    small = [np.asarray(PillowImage.fromarray(one).resize((960, 540))) for one in scenes]
    rows = [np.hstack(small[at : at + 4]) for at in range(0, 16, 4)]
    out = io.BytesIO()
    padded = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(2_500_000)
    profile = len(padded).to_bytes(4) + padded[4:]  # Its first number is its length.
    PillowImage.fromarray(np.vstack(rows)).save(out, "JPEG", quality=70, icc_profile=profile)
    return out.getvalue()


def profile_in_every_crop(service: Service) -> str:
    """Ask for the crops of a photo whose colour profile is large."""
    photo = base64.b64encode(street_with_a_profile()).decode()
    body = json.dumps({"base64_Photo_String": photo, "boundingBoxCrop": "YES"}).encode()
    return summary(service.post(DOCUMENTED, body, authorization=service.attacker()))


def silent_name_server(service: Service) -> str:
    """Name a host whose name server never answers; 16 of them used to stop all look-ups."""
    host = f"{random.randrange(10**9)}.silent.test"  # noqa: S311 - no secret
    body = json.dumps({"photo_url": f"http://{host}/a.jpg"}).encode()
    return summary(service.post(DOCUMENTED, body, authorization=service.attackers[0]))


def known_name_beside_it(service: Service) -> str:
    """Meanwhile, of another account: a name that its server answers at once with "unknown"."""
    started = time.perf_counter()
    body = json.dumps({"photo_url": "http://unknown.test/a.jpg"}).encode()
    answer = summary(service.post(DOCUMENTED, body, authorization=service.attackers[1]))
    return answer + (" within 1 s" if time.perf_counter() - started < 1 else " after 1 s or more")


def names_of_both_kinds(service: Service) -> str:
    """Send three of the silent kind for each of the other."""
    if random.random() < 0.25:  # noqa: S311 - no secret
        return "another account: " + known_name_beside_it(service)
    return silent_name_server(service)


def write_all_then_read(service: Service) -> str:
    """Send 8 to 32 MB as .NET's `WebClient` does: no answer is read before the last byte is out."""
    size = random.choice([8, 16, 32]) * 1_000_000  # noqa: S311 - no secret
    authorization = random.choice(  # noqa: S311 - no secret
        [service.attacker(), "Basic " + base64.b64encode(b"nobody:wrong").decode(), ""]
    )
    head = (
        f"POST {DOCUMENTED} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        f"Authorization: {authorization}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(head.encode())
            for _ in range(size // 100_000):
                connection.sendall(b"A" * 100_000)
            answer = b""
            while not answer.endswith(b"}]") and (part := connection.recv(65536)):
                answer += part
        except ConnectionError as error:
            return type(error).__name__
    return summary((int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]))


def half_a_header(service: Service) -> str:
    """Send a header that never ends, a byte a second, and see when the service has enough."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nX: ")
            while time.perf_counter() - started < PATIENCE_S:
                connection.sendall(b"x")
                time.sleep(1)
        except ConnectionError:
            pass
    waited_s = time.perf_counter() - started
    return "ended by the service" if waited_s < PATIENCE_S / 2 else "still open"


ON_THE_API = (
    Attack("3", "5 MB of JSON objects in a refused body", objects_in_a_refused_body),
    Attack("4", "unknown keys, 5 MB of them", unknown_keys),
    Attack("4", "unknown fields of a form, 5 MB of them", form_fields),
    Attack("5", "a data: prefix of 5 MB", endless_prefix),
    Attack("7", "crops of a photo with a 2.5 MB colour profile", profile_in_every_crop, 8, 2),
    Attack("10", "names whose server never answers", names_of_both_kinds, 64, 24),
    Attack("13", "bodies of 8 to 32 MB, written before the answer is read", write_all_then_read),
    Attack("minor", "headers that never end", half_a_header, 100, 100),
)
