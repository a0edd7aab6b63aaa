"""Hostile requests to demo and console, and photos made to cost their decoder much."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import io
import json
import random
import re
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
from PIL import Image as PillowImage

from benchmarks.attacks import DOCUMENTED, Attack, Service, summary
from benchmarks.service import PASSWORD, address_of
from plateblur.drawn.scene import draw_scene

SETTINGS = ["veil", 0.25, 0.45, False, "strip", "default"]  # of the demo's page
TAKE = 0  # number of the event that takes dropped photos
API = "/demo/gradio_api"
UPLOAD_BYTES = 60_000_000
KEY = re.compile(r"pb_[a-z2-7]{12}_[\w-]{43}")


# --- The demo ----------------------------------------------------------------------------------


@contextmanager
def visitor(service: Service) -> Iterator[httpx.Client]:
    """Open the demo's page in a client of its own."""
    with httpx.Client(base_url=service.url, timeout=120) as client:
        client.get("/demo/")
        yield client


def taken(client: httpx.Client, path: str) -> str:
    """Ask the demo for a file by its path, and return whether anything of it came back."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"fn_index": TAKE, "data": [[file], *SETTINGS], "session_hash": "hostile"}
    joined = client.post(f"{API}/queue/join", json=body)
    if joined.status_code != httpx.codes.OK:
        return f"{joined.status_code} refused"
    asked = {"session_hash": "hostile"}
    with client.stream("GET", f"{API}/queue/data", params=asked) as answers:
        for line in answers.iter_lines():
            message = json.loads(line.removeprefix("data: ") or "{}")
            if message.get("msg") in ("process_completed", "unexpected_error"):
                return "PHOTO CAME BACK" if '"before"' in line else "no photo"
    return "no answer"


def photo_on_the_server(service: Service) -> str:
    """Ask the demo for a photo that is on the server and was never uploaded."""
    photo = service.folder / "private" / "photo.jpg"
    if not photo.exists():
        photo.parent.mkdir(mode=0o700, exist_ok=True)
        PillowImage.fromarray(draw_scene(5, plates=1).image).save(photo)
    with visitor(service) as client:
        return taken(client, str(photo))


def endless_file(service: Service) -> str:
    """Ask the demo for a file that never ends."""
    with visitor(service) as client:
        return taken(client, random.choice(["/dev/zero", "/dev/stdin"]))  # noqa: S311 - no secret


def many_uploads(service: Service) -> str:
    """Upload 60 MB to the demo and leave it there."""
    with visitor(service) as client:
        try:
            answer = client.post(f"{API}/upload", files={"files": ("a.jpg", bytes(UPLOAD_BYTES))})
        except httpx.TransportError as error:
            return type(error).__name__
        return str(answer.status_code)


# --- Photos that cost much ---------------------------------------------------------------------


def _png(width: int, height: int, *, bits: int, colour: int, bytes_a_pixel: int) -> bytes:
    """Return a PNG without a mark in it, as small as it gets."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        )

    packer, packed = zlib.compressobj(9), b""
    rows = max(1, 1_000_000 // (1 + width * bytes_a_pixel))
    for at in range(0, height, rows):
        packed += packer.compress(bytes((1 + width * bytes_a_pixel) * min(rows, height - at)))
    header = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0)
    end = chunk(b"IDAT", packed + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


@cache
def costly_photos() -> tuple[bytes, ...]:
    """Return a JPEG of thousands of scans, a PNG of one column, and one of 16 bits and opacity."""
    out = io.BytesIO()
    PillowImage.new("L", (7700, 7700)).save(out, "JPEG", progressive=True)
    jpeg = out.getvalue()
    last = jpeg.rindex(b"\xff\xda")
    scans = jpeg[:last] + jpeg[last:-2] * min(8000, 3_000_000 // (len(jpeg) - last)) + jpeg[-2:]
    column = _png(1, 60_000_000, bits=8, colour=0, bytes_a_pixel=1)
    deep = _png(7700, 7700, bits=16, colour=6, bytes_a_pixel=8)
    return scans, column, deep


def costly_photo(service: Service) -> str:
    """Send a small photo that is slow or large to decode."""
    photo = random.choice(costly_photos())  # noqa: S311 - no secret
    body = json.dumps({"base64_Photo_String": base64.b64encode(photo).decode()}).encode()
    return summary(service.post(DOCUMENTED, body, authorization=service.attacker()))


# --- Accounts ----------------------------------------------------------------------------------


def basic(user: str, secret: str) -> dict[str, str]:
    """Return an `Authorization` header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


def form_token(page: str) -> str:
    """Return the token that a page of the console wants back with its form."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    if found is None:
        raise RuntimeError("expected a form with a token")
    return found[1]


def send(client: httpx.Client, path: str, *, page: str = "", **form: str) -> httpx.Response:
    """Send a form of the console with the token of its page."""
    return client.post(path, data=form | {"csrf": form_token(client.get(page or path).text)})


def links(folder: Path, address: str) -> list[str]:
    """Return the links in the e-mails to an address, oldest first."""
    found = []
    for path in sorted((folder / "outbox").glob("*.eml"), key=lambda one: one.stat().st_mtime_ns):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        body = mail.get_body(("plain",))
        link = re.search(r"/console/\S+\?token=\S+", body.get_content() if body else "")
        if mail["To"] == address and link:
            found.append(link[0])
    return found


def revoked_key(service: Service) -> str:
    """Call with a revoked key 100 times, then with the account's other key."""
    address = address_of(random.randrange(8))  # noqa: S311 - no secret
    with httpx.Client(base_url=service.url, timeout=60) as client:
        send(client, "/console/login", username=address, password=PASSWORD)
        lost, other = (
            KEY.findall(send(client, "/console/keys", label=label).text)[0] for label in "ab"
        )
        rows = re.findall(r"/console/keys/(\d+)/revoke", client.get("/console/keys").text)
        send(client, f"/console/keys/{rows[1]}/revoke", page="/console/keys")
    with httpx.Client(base_url=service.url, timeout=60) as client:
        gone = {
            client.get("/v1/usage", headers=basic(address, lost)).status_code for _ in range(100)
        }
        still = {
            client.get("/v1/usage", headers=basic(address, other)).status_code for _ in range(5)
        }
    return f"revoked key {sorted(gone)}, the other {sorted(still)}"


def hashes_at_once(service: Service) -> str:
    """Post 100 resets without a link, then 100 wrong passwords, all at once."""

    async def attack() -> tuple[Counter[int], Counter[str]]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            token = form_token((await client.get("/console/reset?token=" + "x" * 43)).text)
            form = {"csrf": token, "password": "a long enough password"}
            resets = await asyncio.gather(
                *(
                    client.post("/console/reset", data=form | {"token": f"{number:043}"})
                    for number in range(100)
                )
            )
            guesses = await asyncio.gather(
                *(
                    client.post(DOCUMENTED, json={}, headers=basic(f"u{n}@plates.io", "wrong"))
                    for n in range(100)
                )
            )
        codes = Counter(str(one.json()[0]["cd"]) for one in guesses)
        return Counter(one.status_code for one in resets), codes

    resets, guesses = asyncio.run(attack())
    return f"resets {sorted(resets)}, guesses {sorted(guesses)}"


def stolen_account(service: Service) -> str:
    """Sign up with an address that somebody is signing up with, and use a key after the reset."""
    address = f"victim{random.getrandbits(40)}@plates.io"
    owners, attackers = "the owner's password", "the attacker's password"
    agreed = {"consent_terms": "yes", "consent_privacy": "yes"}

    def client() -> httpx.Client:
        return httpx.Client(base_url=service.url, timeout=60)

    for password in (owners, attackers):
        with client() as one:
            send(one, "/console/signup", email=address, password=password, **agreed)
    time.sleep(2)  # e-mails are sent after the answer
    for link in reversed(links(service.folder, address)):  # the attacker's first
        with client() as owner:
            token = link.partition("token=")[2]
            send(owner, "/console/activate", page=link, token=token, password=owners)
    with client() as attacker:
        log_in = send(attacker, "/console/login", username=address, password=attackers)
    with client() as thief, client() as owner:  # the owner's password leaked
        send(thief, "/console/login", username=address, password=owners)
        key = KEY.findall(send(thief, "/console/keys", label="").text)[0]
        send(owner, "/console/forgotten", email=address)
        time.sleep(2)
        link = links(service.folder, address)[-1]
        new = owners + " the next"
        send(owner, "/console/reset", page=link, token=link.partition("token=")[2], password=new)
        session = thief.get("/console").headers.get("location", "still logged in")
        answer = thief.get("/v1/usage", headers={"Authorization": f"Bearer {key}"})
    return f"log-in {log_in.status_code}, session {session}, key {answer.json()['cd']}"


ON_PAGES = (
    Attack("1", "a photo on the server, asked for through the demo", photo_on_the_server, 24),
    Attack("2", "an endless file, asked for through the demo", endless_file, 24),
    Attack("6", "photos that cost their decoder much", costly_photo, 24),
    Attack("8", "a revoked key that goes on calling", revoked_key, 2, 1, mixes=False),
    Attack(
        "11", "somebody else's sign-up, and a leaked password", stolen_account, 1, 1, mixes=False
    ),
    Attack("9", "100 resets and 100 wrong passwords at once", hashes_at_once, 2, 1),
    Attack("12", "uploads of 60 MB that nobody takes", many_uploads, 16, 4),
)
