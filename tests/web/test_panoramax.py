"""`POST /blur/`, called as Panoramax' API calls its blurring service, with the same library."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests
from PIL import ExifTags
from PIL import Image as PillowImage
from werkzeug.formparser import parse_form_data

from plateblur.accounts.types import PaidQuotaError
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions, BlurredPhoto
from plateblur.web import Settings, create_app
from tests.fakes import DarkDetector
from tests.test_metadata import THUMBNAIL, exif_with_everything
from tests.web.fakes import (
    KEY,
    PASSWORD,
    USER,
    FakeBlur,
    FakeGate,
    make_stand,
    photo_bytes,
    running,
)

PLATE = (100, 80, 180, 100)


def picture() -> bytes:
    """Return a JPEG with a dark plate, as a camera takes it: place, time, owner and previews."""
    image = PillowImage.new("RGB", (320, 200), (200, 200, 200))
    image.paste((10, 10, 10), PLATE)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92, exif=exif_with_everything())
    return out.getvalue()


def blur_dark(
    data: bytes, options: BlurOptions, ended: threading.Event, *, max_pixels: int
) -> BlurredPhoto:
    return blur_photo(data, DarkDetector(), options, max_pixels=max_pixels)


@dataclass
class Blurred:
    image: PillowImage.Image
    metadata: dict[str, Any] | None


def call_as_panoramax(
    api_blur_url: str, data: bytes, *, keep_unblurred_parts: bool = False
) -> Blurred:
    """Send what Panoramax' API sends since it knows of multipart answers, and read the answer."""
    answer = requests.post(  # noqa: S113 - as there, without a timeout
        f"{api_blur_url}/blur/",
        files={"picture": ("picture.jpg", data, "image/jpeg")},
        headers={"Accept": "multipart/form-data"},
        params={"keep": 1} if keep_unblurred_parts else {},
    )
    answer.raise_for_status()
    content_type = answer.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        return Blurred(PillowImage.open(io.BytesIO(answer.content)), None)
    _, form, files = parse_form_data(
        {
            "wsgi.input": io.BytesIO(answer.content),
            "CONTENT_LENGTH": str(len(answer.content)),
            "CONTENT_TYPE": content_type,
            "REQUEST_METHOD": "POST",
        },
        stream_factory=lambda *_, **__: io.BytesIO(),
    )
    parts = {name: file.read() for name, file in files.items()} | dict(form)
    metadata = json.loads(parts["metadata"])
    return Blurred(PillowImage.open(io.BytesIO(parts["image"])), metadata)


def call_as_before(api_blur_url: str, data: bytes) -> Blurred:
    """Send what Panoramax' API sent before, which took any answer for the picture."""
    answer = requests.post(  # noqa: S113 - as there
        api_blur_url + "/blur/", files={"picture": ("picture.jpg", data, "image/jpeg")}
    )
    answer.raise_for_status()
    return Blurred(PillowImage.open(io.BytesIO(answer.content)), None)


@pytest.fixture(scope="module")
def gate() -> FakeGate:
    return FakeGate(limit=10**6)


@pytest.fixture(scope="module")
def url(gate: FakeGate) -> Iterator[str]:
    """The address as an instance's operator sets it: with the account and its key."""
    with running(create_app(blur_dark, gate, Settings(panoramax=True))) as address:
        host = address.removeprefix("http://")
        yield f"http://{quote(USER, safe='')}:{KEY}@{host}"


def assert_hidden(image: PillowImage.Image) -> None:
    assert image.format == "JPEG"
    left, top, right, bottom = PLATE
    inside = np.asarray(image.convert("L"))[top:bottom, left:right]
    assert inside.min() > 60


@pytest.mark.parametrize("keep", [False, True])
def test_an_instance_gets_the_picture_and_its_metadata(url: str, keep: bool) -> None:
    blurred = call_as_panoramax(url, picture(), keep_unblurred_parts=keep)
    assert_hidden(blurred.image)
    assert blurred.metadata is not None
    assert blurred.metadata["service_name"] == "PlateBlur"
    assert blurred.metadata["annotations"] == []
    assert blurred.metadata["blurring_id"] == ""
    (plate,) = blurred.metadata["info"]
    assert plate["class"] == "plate"
    assert plate["xywh"] == pytest.approx([100, 80, 80, 20], abs=3)


def test_an_instance_of_before_gets_the_picture(url: str) -> None:
    assert_hidden(call_as_before(url, picture()).image)


@pytest.mark.parametrize("call", [call_as_panoramax, call_as_before])
def test_all_exif_is_kept_but_the_preview(url: str, call: Any) -> None:
    data = picture()
    assert data.count(THUMBNAIL) == 3
    image = call(url, data).image
    exif = image.getexif()
    assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Model]) == ("Cameramaker", "Model One")
    assert exif[ExifTags.Base.Artist] == "Ann Owner"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.DateTimeOriginal] == "2026:11:22 10:59:59"
    assert details[ExifTags.Base.ExposureTime] == 1 / 250
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (48, 8, 30)
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert THUMBNAIL not in image.info["exif"]


def test_each_picture_counts_as_a_request(url: str, gate: FakeGate) -> None:
    before = gate.requests
    call_as_panoramax(url, picture())
    assert gate.requests == before + 1


@pytest.mark.parametrize(
    ("data", "status"), [(b"no picture", 422), (photo_bytes("PNG"), 422), (b"", 422)]
)
def test_what_fails_is_no_success(url: str, data: bytes, status: int) -> None:
    with pytest.raises(requests.HTTPError) as failed:
        call_as_panoramax(url, data)
    assert failed.value.response.status_code == status
    assert failed.value.response.json()["cd"] in {"1013", "1014"}


def test_without_the_key_nothing_is_blurred(url: str) -> None:
    host = url.partition("@")[2]
    with pytest.raises(requests.HTTPError) as failed:
        call_as_panoramax(f"http://{host}", picture())
    assert failed.value.response.status_code == 401


@pytest.mark.anyio
async def test_it_is_there_only_where_it_is_switched_on() -> None:
    answer = await make_stand().client.post("/blur/", auth=(USER, PASSWORD))
    assert answer.status_code == 404


class FullForAMoment(FakeGate):
    """Its minute is full for the first requests."""

    full_for, refused = 2, 0

    def admit(self, *given: Any, **named: Any) -> Any:
        if self.refused < self.full_for:
            self.refused += 1
            raise PaidQuotaError(retry_after_s=self.retry_after_s)
        return super().admit(*given, **named)

    retry_after_s = 7


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("full_for", "retry_after_s", "status", "waits"),
    [(2, 7, 200, [7, 7]), (9, 7, 429, [7, 7, 7]), (1, 3600, 429, [])],
    ids=["a minute that is full", "one that stays so", "a month that is used up"],
)
async def test_a_full_minute_is_waited_for_because_the_client_would_give_the_picture_up(
    monkeypatch: pytest.MonkeyPatch,
    full_for: int,
    retry_after_s: int,
    status: int,
    waits: list[int],
) -> None:
    gate = FullForAMoment()
    gate.full_for, gate.retry_after_s = full_for, retry_after_s
    stand = make_stand(blur=FakeBlur(), gate=gate, settings=Settings(panoramax=True))
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("plateblur.web.panoramax.sleep", noted)
    answer = await stand.client.post(
        "/blur/", files={"picture": ("picture.jpg", photo_bytes())}, auth=(USER, PASSWORD)
    )
    assert answer.status_code == status
    assert waited == waits
