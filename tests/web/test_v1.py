"""`/v1` with real status codes, problem documents and RateLimit headers."""

from __future__ import annotations

from typing import Any

import pytest

from plateblur.accounts.types import (
    AccessError,
    DailyQuotaError,
    InvoiceStoreError,
    QuotaError,
    UnknownCredentialsError,
)
from plateblur.errors import DetectionError, PhotoDecodeError, PhotoTooLargeError
from plateblur.types import BlurOptions
from plateblur.web.failures import STATUSES
from tests.web.fakes import (
    KEY,
    FakeBlur,
    FakeGate,
    access_errors,
    basic,
    make_stand,
    photo_bytes,
    text_of,
)

pytestmark = pytest.mark.anyio

PHOTO = photo_bytes()
BEARER = {"Authorization": f"Bearer {KEY}"}
FORM = {"photo": ("street.jpg", PHOTO, "image/jpeg")}


async def test_a_form_with_a_file_gives_the_blurred_image() -> None:
    stand = make_stand()
    answer = await stand.client.post("/v1/blur", files=FORM, headers=BEARER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert answer.headers["plateblur-detections"] == "2"
    assert answer.headers["ratelimit-limit"] == "50"
    assert answer.headers["ratelimit-remaining"] == "49"
    assert answer.headers["ratelimit-reset"] == "90"
    assert stand.blur.asked == [BlurOptions()]
    assert (stand.gate.requests, stand.gate.predictions) == (1, 5)


@pytest.mark.parametrize("path", ["/v1/blur", "/v1/detect"])
@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "navigate", 403),
        ("cross-site", "no-cors", 403),
        ("same-site", "navigate", 403),
        ("cross-site", "cors", 200),
        ("same-origin", "navigate", 200),
        ("none", "navigate", 200),
    ],
    ids=["a form", "a script that doesn't ask", "of a neighbour", "a script", "our own", "no page"],
)
async def test_forms_of_other_sites_are_refused_whatever_the_browser_adds(
    path: str, site: str, mode: str, status: int
) -> None:
    stand = make_stand()
    sent = {"Authorization": basic(), "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    answer = await stand.client.post(path, files=FORM, headers=sent)
    assert answer.status_code == status
    assert stand.gate.requests == (status == 200)


async def test_json_gives_json_where_accept_prefers_it() -> None:
    answer = await make_stand().client.post(
        "/v1/blur",
        json={"photo": text_of(PHOTO)},
        headers={"Authorization": basic(), "Accept": "application/json"},
    )
    body = answer.json()
    assert list(body)[:3] == ["created", "width_px", "height_px"]
    assert body["media_type"] == "image/jpeg"
    assert body["photo"] == text_of(PHOTO)
    assert [one["confidence"] for one in body["detections"]] == [0.9, 0.5453594]
    assert body["predictions_counted"] == 5


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "image/jpeg"),
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/webp,image/apng,*/*;q=0.8", "image/jpeg"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json;q=0.5, image/*;q=0.4", "application/json"),
        ("application/json;q=0.4, image/*;q=0.5", "image/jpeg"),
        ("*/*, application/json;q=0.5", "image/jpeg"),
        ("application/json; charset=utf-8", "application/json"),
        ("image/jpg", "image/jpeg"),
        ("image/png;q=0.1", "image/jpeg"),
        ("text/html," * 31 + "application/json", "application/json"),
        ("text/html," * 32 + "application/json", "application/problem+json"),
        ("image/gif", "application/problem+json"),
        ("text/html", "application/problem+json"),
        ("application/json;q=0", "application/problem+json"),
        ("application/json;q=rubbish", "application/problem+json"),
    ],
)
async def test_accept_chooses_the_form_of_the_answer(accept: str | None, content_type: str) -> None:
    headers = BEARER | ({"Accept": accept} if accept else {})
    answer = await make_stand().client.post("/v1/blur", files=FORM, headers=headers)
    assert answer.headers["content-type"] == content_type
    assert answer.status_code == (406 if "problem" in content_type else 200)


@pytest.mark.parametrize("as_form", [True, False], ids=["form", "JSON"])
async def test_options_reach_the_blur(as_form: bool) -> None:
    stand = make_stand()
    options: dict[str, Any] = {
        "method": "solid",
        "margin": 0.3,
        "min_confidence": 0.05,
        "metadata": "safe",
        "draw_boxes": True,
        "effort": "thorough",
    }
    if as_form:
        fields = {name: str(value).lower() for name, value in options.items()}
        await stand.client.post("/v1/blur", files=FORM, data=fields, headers=BEARER)
    else:
        await stand.client.post(
            "/v1/blur", json={"photo": text_of(PHOTO), **options}, headers=BEARER
        )
    assert stand.blur.asked == [BlurOptions(**options)]


async def test_detect_looks_as_hard_as_asked() -> None:
    stand = make_stand()
    asked = {"photo": text_of(PHOTO), "effort": "fast"}
    answer = await stand.client.post("/v1/detect", json=asked, headers=BEARER)
    assert answer.status_code == 200
    assert stand.blur.asked == [BlurOptions(effort="fast")]
    asked["effort"] = "hard"
    answer = await stand.client.post("/v1/detect", json=asked, headers=BEARER)
    assert answer.status_code == 422


async def test_detect_tells_how_small_a_plate_was_looked_for() -> None:
    answer = await make_stand().client.post("/v1/detect", files=FORM, headers=BEARER)
    assert (answer.json()["looks"], answer.json()["smallest_plate_px"]) == (6, 11.9)


async def test_detect_tells_where_the_plates_are() -> None:
    stand = make_stand()
    answer = await stand.client.post("/v1/detect", files=FORM, headers=BEARER)
    body = answer.json()
    assert (body["width_px"], body["height_px"]) == (64, 48)
    assert body["detections"][0]["box"]["width"] == 0.5
    assert "photo" not in body
    assert stand.gate.requests == 1


async def test_usage_tells_what_is_left() -> None:
    stand = make_stand(gate=FakeGate(requests=3))
    answer = await stand.client.get("/v1/usage", headers=BEARER)
    body = answer.json()
    assert body["plan"] == "trial"
    assert body["requests"]["left"] == 47
    assert body["predictions"] is None
    assert answer.headers["ratelimit-remaining"] == "47"


@pytest.mark.parametrize(
    ("content", "status", "cd"),
    [
        ({"json": {}}, 422, "1013"),
        ({"json": {"photo": ""}}, 422, "1013"),
        ({"data": {"method": "veil"}, "files": {}}, 415, "1014"),
        ({"json": {"photo": text_of(PHOTO), "photo_url": "http://a.example/"}}, 422, "1014"),
        ({"json": {"photo": 5}}, 422, "1014"),
        ({"json": {"photo": "***"}}, 400, "1014"),
        ({"json": {"photo": text_of(b"no photo at all")}}, 422, "1014"),
        ({"json": {"photo": text_of(PHOTO), "method": "smudge"}}, 422, "1014"),
        ({"json": {"photo": text_of(PHOTO), "margin": -0.1}}, 422, "1014"),
        ({"json": {"photo": text_of(PHOTO), "margin": "0.1"}}, 422, "1014"),
        ({"json": {"photo": text_of(PHOTO), "min_confidence": 0.04}}, 422, "1014"),
        ({"json": {"photo": text_of(PHOTO), "colour": 1}}, 422, "1014"),
        ({"json": []}, 400, "1014"),
        ({"content": b"{"}, 400, "1014"),
        ({"content": PHOTO, "headers": {"Content-Type": "image/jpeg"}}, 415, "1014"),
        ({"files": {"file": ("a.jpg", PHOTO)}}, 400, "1014"),
        ({"files": {"photo": ("a.jpg", b"")}}, 422, "1013"),
        ({"files": [("photo", ("a.jpg", PHOTO)), ("photo", ("b.jpg", PHOTO))]}, 400, "1014"),
        ({"files": FORM, "data": {"margin": "wide"}}, 422, "1014"),
        ({"files": FORM, "data": {f"f{i}": "" for i in range(40)}}, 400, "1014"),
        ({"files": FORM, "data": {"method": "v" * 20_000}}, 400, "1014"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "1014"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "1014",
        ),
        ({"content": b"x" * (32 * 1024 * 1024 + 1)}, 413, "1013"),
        ({"content": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, 415, "1014"),
    ],
)
async def test_what_cannot_be_used_is_a_problem_with_its_code(
    content: dict[str, Any], status: int, cd: str
) -> None:
    stand = make_stand()
    headers = BEARER | content.pop("headers", {})
    answer = await stand.client.post("/v1/blur", headers=headers, **content)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["cd"]) == (status, cd)
    assert body["instance"].endswith(answer.headers["x-request-id"])
    assert stand.gate.requests == 0


@pytest.mark.parametrize("kind", access_errors(), ids=lambda kind: kind.cd)
async def test_every_error_of_the_gate_has_its_status(kind: type[AccessError]) -> None:
    gate = FakeGate()
    error = kind(retry_after_s=7)
    if issubclass(kind, QuotaError):
        gate.admit_fails_with = error
    else:
        gate.plan_fails_with = error
    answer = await make_stand(gate=gate).client.post("/v1/detect", files=FORM, headers=BEARER)
    expected = 429 if kind is UnknownCredentialsError else STATUSES[kind.cd]
    assert (answer.status_code, answer.json()["cd"]) == (expected, kind.cd)
    assert answer.headers["retry-after"] == "7"
    assert ("ratelimit-limit" in answer.headers) is issubclass(kind, QuotaError)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PhotoDecodeError(), 422),
        (PhotoTooLargeError(), 413),
        (DetectionError(), 500),
        (ZeroDivisionError(), 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_photo_that_fails_has_its_status_and_is_given_back(
    error: Exception, status: int
) -> None:
    stand = make_stand(blur=FakeBlur(fails_with=error))
    answer = await stand.client.post("/v1/blur", files=FORM, headers=BEARER)
    assert answer.status_code == status
    assert stand.gate.requests == 0


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Digest x"}, {"Authorization": "Bearer "}], ids=str
)
async def test_who_says_nothing_of_himself_is_asked(headers: dict[str, str]) -> None:
    answer = await make_stand().client.get("/v1/usage", headers=headers)
    assert (answer.status_code, answer.json()["cd"]) == (401, "1001")
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_wrong_key_is_1015() -> None:
    answer = await make_stand().client.get("/v1/usage", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["cd"]) == (401, "1015")


async def test_figures_that_cannot_be_told_do_not_cost_the_photo() -> None:
    gate = FakeGate(usage_fails_with=InvoiceStoreError())
    answer = await make_stand(gate=gate).client.post("/v1/blur", files=FORM, headers=BEARER)
    assert answer.status_code == 200
    assert "ratelimit-limit" not in answer.headers


@pytest.mark.slow
async def test_a_used_up_plan_says_when_to_come_back() -> None:
    gate = FakeGate(limit=1, requests=1)
    answer = await make_stand(gate=gate).client.post("/v1/blur", files=FORM, headers=BEARER)
    assert answer.status_code == 429
    assert answer.json()["cd"] == DailyQuotaError.cd
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["ratelimit-remaining"] == "0"


@pytest.mark.slow
async def test_scripts_of_other_origins_may_ask() -> None:
    stand = make_stand()
    preflight = await stand.client.options(
        "/plateblurer.aspx",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    answer = await stand.client.post(
        "/v1/blur", files=FORM, headers=BEARER | {"Origin": "https://shop.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert "RateLimit-Remaining" in answer.headers["access-control-expose-headers"]
