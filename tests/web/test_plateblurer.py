"""The documented endpoint, line by line of the contract."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.accounts.types import (
    AccessError,
    AccountClosedError,
    NoInvoiceError,
    PaidQuotaError,
    QuotaError,
    TrialStoreError,
    UnknownCredentialsError,
)
from plateblur.errors import (
    DetectionError,
    EncodeError,
    PhotoDecodeError,
    PhotoTooLargeError,
    PlateblurError,
)
from plateblur.types import BlurOptions, BlurredPhoto, Detections
from plateblur.web import Settings
from plateblur.web.failures import SENTENCES, STATUSES
from plateblur.web.schemas import fractions
from tests.fakes import encoded
from tests.web.fakes import (
    KEY,
    PASSWORD,
    USER,
    FakeBlur,
    FakeGate,
    access_errors,
    basic,
    documented_client,
    make_stand,
    photo_bytes,
    text_of,
)

pytestmark = pytest.mark.anyio

PHOTO = text_of(photo_bytes())


async def test_the_answer_is_the_documented_one_key_by_key() -> None:
    stand = make_stand()
    answer = await stand.post({"base64_Photo_String": PHOTO, "photo_url": "NO"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["created", "predictions", "final_photo"]
    assert body["created"] == "2026-05-02T12:28:09.989Z"
    assert [one["probability"] for one in body["predictions"]] == [0.9, 0.5453594, 0.21]
    first = body["predictions"][0]
    assert list(first) == ["probability", "tagId", "tagName", "boundingBox"]
    assert first["tagId"] == "6b333d95-e461-4155-890c-9921158f7d17"
    assert first["tagName"] == "License Plate"
    assert list(first["boundingBox"]) == ["left", "top", "width", "height"]
    assert first["boundingBox"] == {"left": 0.0, "top": 0.0625, "width": 0.5, "height": 0.9375}
    assert base64.b64decode(body["final_photo"], validate=True).startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("path", ["/PlateBlurer.aspx", "/PLATEBLURER.ASPX", "/plateblurer.ASPX"])
async def test_path_and_fields_are_taken_in_any_case(path: str) -> None:
    """As the original service's server took them."""
    stand = make_stand()
    fields = {"BASE64_photo_string": PHOTO, "Photo_URL": "NO", "boundingboxcrop": "yes"}
    answer = await stand.post(fields, path=path)
    assert answer.status_code == 200
    assert "boundingBoxPhoto" in answer.json()["predictions"][0]


async def test_a_failure_on_a_path_in_another_case_is_the_documented_one() -> None:
    answer = await make_stand().post({"PHOTO_URL": "NO"}, path="/PlateBlurer.aspx")
    assert answer.status_code == 200
    assert answer.json()[0]["cd"] == "1013"


@pytest.mark.parametrize("format_", ["TIFF", "BMP", "GIF"])
async def test_formats_beyond_the_contract_are_refused(format_: str) -> None:
    photo = text_of(encoded(np.zeros((8, 8, 3), np.uint8), format_))
    answer = await make_stand().post({"base64_Photo_String": photo})
    assert answer.json()[0]["cd"] == "1014"
    assert "JPEG, PNG, WebP, HEIC or AVIF" in answer.json()[0]["description"]


async def test_the_most_probable_comes_first_with_its_own_crop() -> None:
    stand = make_stand(blur=FakeBlur(confidences=(0.3, 0.9, 0.5)))
    answer = await stand.post({"base64_Photo_String": PHOTO, "boundingBoxCrop": "YES"})
    shown = [
        (one["probability"], base64.b64decode(one["boundingBoxPhoto"]))
        for one in answer.json()["predictions"]
    ]
    assert shown == [(0.9, b"crop 1"), (0.5, b"crop 2"), (0.3, b"crop 0")]


@given(
    edges=st.tuples(*[st.floats(-2000, 6000, width=32)] * 4),
    size_wh=st.tuples(st.integers(1, 8000), st.integers(1, 8000)),
)
def test_a_box_is_always_inside_the_photo(
    edges: tuple[float, float, float, float], size_wh: tuple[int, int]
) -> None:
    x1, x2, y1, y2 = *sorted(edges[:2]), *sorted(edges[2:])
    found = Detections(np.array([[x1, y1, x2, y2]], np.float32), np.ones(1, np.float32))
    photo = BlurredPhoto(b"", "JPEG", size_wh[::-1], found, predictions_counted=1)
    box = fractions(photo, 0)
    assert all(0 <= share <= 1 for share in box.values())
    assert box["left"] + box["width"] <= 1 + 1e-12
    assert box["top"] + box["height"] <= 1 + 1e-12


async def test_no_plate_is_a_success_without_predictions() -> None:
    stand = make_stand(blur=FakeBlur(confidences=()))
    body = (await stand.post({"base64_Photo_String": PHOTO})).json()
    assert body["predictions"] == []
    assert body["final_photo"]


async def test_all_plates_are_counted_and_those_above_a_fifth_are_blurred_and_drawn() -> None:
    stand = make_stand()
    await stand.post({"base64_Photo_String": PHOTO})
    assert (stand.gate.requests, stand.gate.predictions) == (1, 5)
    assert stand.blur.asked == [BlurOptions(min_confidence=0.20, draw_boxes=True)]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF"])
async def test_each_format_comes_back_as_itself(format_: str) -> None:
    body = (await make_stand().post({"base64_Photo_String": text_of(photo_bytes(format_))})).json()
    assert base64.b64decode(body["final_photo"]) == photo_bytes(format_)


@pytest.mark.parametrize(
    "text",
    [
        PHOTO,
        "\r\n".join(PHOTO[i : i + 76] for i in range(0, len(PHOTO), 76)),
        f"  {PHOTO[:9]}\t {PHOTO[9:]} ",
        f"data:image/jpeg;base64,{PHOTO}",
        f"DATA:image/jpeg;name=a.jpg;BASE64,{PHOTO}",
        PHOTO.rstrip("="),
    ],
    ids=["plain", "lines", "blanks", "data prefix", "data prefix in capitals", "no padding"],
)
async def test_base64_is_read_as_leniently_as_clients_write_it(text: str) -> None:
    assert "predictions" in (await make_stand().post({"base64_Photo_String": text})).json()


@pytest.mark.parametrize("rest", [0, 1, 2], ids=lambda rest: f"{rest} bytes over")
async def test_missing_padding_is_made_up_for_at_every_length(rest: int) -> None:
    photo = photo_bytes() + b"\0" * ((3 - len(photo_bytes()) % 3) % 3 + rest)
    text = text_of(photo).rstrip("=")
    assert "predictions" in (await make_stand().post({"base64_Photo_String": text})).json()


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, False),
        ({"boundingBoxCrop": "YES"}, True),
        ({"boundingBoxCrop": "yes"}, True),
        ({"plate_output": "YES"}, True),
        ({"plate_output": "Yes", "boundingBoxCrop": "NO"}, True),
        ({"boundingBoxCrop": "YES", "plate_output": "NO"}, True),
        ({"boundingBoxCrop": "no", "plate_output": "NO"}, False),
        ({"boundingBoxCrop": None, "plate_output": ""}, False),
    ],
)
async def test_a_crop_comes_where_either_switch_is_on(fields: dict[str, Any], asked: bool) -> None:
    stand = make_stand()
    body = (await stand.post({"base64_Photo_String": PHOTO, **fields})).json()
    assert all(("boundingBoxPhoto" in one) is asked for one in body["predictions"])
    assert stand.blur.asked[0].crops is asked


async def test_unknown_fields_are_ignored() -> None:
    body = {"base64_Photo_String": PHOTO, "colour": {"deep": [1]}, "": None}
    assert "predictions" in (await make_stand().post(body)).json()


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
async def test_a_missing_or_other_content_type_is_tolerated(content_type: str | None) -> None:
    headers = {"Authorization": basic()}
    if content_type:
        headers["Content-Type"] = content_type
    body = b"\xef\xbb\xbf" + json.dumps({"base64_Photo_String": PHOTO}).encode()
    answer = await make_stand().client.post("/plateblurer.aspx", content=body, headers=headers)
    assert "predictions" in answer.json()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("authorization", "cd"),
    [
        (basic(), "answer"),
        (basic(USER, KEY), "answer"),
        (basic("ana", PASSWORD), "answer"),
        (basic().replace("Basic", "bAsIc"), "answer"),
        (basic().replace("Basic ", "Basic   "), "answer"),
        (basic().rstrip("="), "answer"),
        ("", "1001"),
        ("Basic", "1001"),
        ("Basic ", "1001"),
        ("Bearer " + KEY, "1001"),
        ("Basic !!!", "1001"),
        ("Basic " + base64.b64encode(b"no colon").decode(), "1001"),
        ("Basic " + base64.b64encode(b"\xff\xfe:x").decode(), "1001"),
        (basic(USER, "wrong"), "1015"),
        (basic("nobody", PASSWORD), "1015"),
        (basic("", ""), "1015"),
        (basic(USER + "\0", PASSWORD), "1015"),
        (basic(USER, "x" * 1025), "1015"),
    ],
)
async def test_credentials_are_read_as_documented(authorization: str, cd: str) -> None:
    answer = await make_stand().post({"base64_Photo_String": PHOTO}, authorization=authorization)
    assert documented_client(answer)[0] == cd


async def test_a_missing_header_is_1001_in_the_documented_words() -> None:
    answer = await make_stand().client.post("/plateblurer.aspx", json={})
    assert answer.status_code == 200
    assert answer.json() == [
        {"cd": "1001", "description": "The authorization header is either empty or isn't Basic."}
    ]


async def test_the_gate_is_told_the_address_of_who_asks() -> None:
    stand = make_stand()
    await stand.post({})
    assert stand.gate.addresses == ["198.51.100.7"]


BAD_BODIES: list[tuple[str, bytes | dict[str, Any], str]] = [
    ("empty", b"", "1013"),
    ("blanks", b" \r\n", "1013"),
    ("no photo", {}, "1013"),
    ("both NO", {"base64_Photo_String": "NO", "photo_url": "NO"}, "1013"),
    ("both no, small", {"base64_Photo_String": " no ", "photo_url": "No"}, "1013"),
    ("both empty", {"base64_Photo_String": "", "photo_url": ""}, "1013"),
    ("both null", {"base64_Photo_String": None, "photo_url": None}, "1013"),
    ("both given", {"base64_Photo_String": PHOTO, "photo_url": "http://a.example/b.jpg"}, "1014"),
    ("photo is a number", {"base64_Photo_String": 5}, "1014"),
    ("photo is a list", {"base64_Photo_String": [PHOTO]}, "1014"),
    ("url is an object", {"photo_url": {}}, "1014"),
    ("switch is a boolean", {"base64_Photo_String": PHOTO, "boundingBoxCrop": True}, "1014"),
    ("switch is neither", {"base64_Photo_String": PHOTO, "plate_output": "maybe"}, "1014"),
    ("bad base64", {"base64_Photo_String": PHOTO + "*"}, "1014"),
    ("url-safe base64", {"base64_Photo_String": "_9j_4AAQ"}, "1014"),
    ("one character too many", {"base64_Photo_String": "A" * 5}, "1014"),
    ("not ASCII", {"base64_Photo_String": "ÿ" * 8}, "1014"),
    ("no image", {"base64_Photo_String": text_of(b"hello, this is text")}, "1014"),
    ("an image that is not taken", {"base64_Photo_String": text_of(photo_bytes("GIF"))}, "1014"),
    ("not JSON", b"base64_Photo_String=NO", "1014"),
    ("half JSON", b'{"base64_Photo_String": "NO"', "1014"),
    ("not UTF-8", b'{"base64_Photo_String": "\xff"}', "1014"),
    ("a JSON list", b"[]", "1014"),
    ("a JSON string", b'"NO"', "1014"),
    ("depth bomb, lists", b"[" * 1_000_000, "1014"),
    ("depth bomb, objects", b'{"a":' * 500_000, "1014"),
    ("url of a file", {"photo_url": "file:///etc/passwd"}, "1014"),
    ("url of loopback", {"photo_url": "http://127.0.0.1/a.jpg"}, "1014"),
]


@pytest.mark.parametrize(
    ("body", "cd"), [row[1:] for row in BAD_BODIES], ids=[row[0] for row in BAD_BODIES]
)
async def test_a_body_that_cannot_be_used_is_told_and_costs_nothing(
    body: bytes | dict[str, Any], cd: str
) -> None:
    stand = make_stand()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await stand.client.post(
        "/plateblurer.aspx", content=content, headers={"Authorization": basic()}
    )
    told, description = documented_client(answer)
    assert told == cd
    expected = "Nothing to upload" if cd == "1013" else "Invalid request data! "
    assert str(description).startswith(expected)
    assert (stand.gate.requests, stand.blur.asked) == (0, [])


@pytest.mark.parametrize(
    "error", access_errors(), ids=[f"{kind.cd} {kind.__name__}" for kind in access_errors()]
)
async def test_every_error_of_the_gate_has_its_code_and_its_sentence(
    error: type[AccessError],
) -> None:
    gate = FakeGate()
    secret = "postgresql://root:hunter2@10.0.0.3/accounts"
    if issubclass(error, QuotaError):
        gate.admit_fails_with = error(secret)
    elif error in {UnknownCredentialsError, AccountClosedError}:
        gate.authenticate_fails_with = error(secret)
    else:
        gate.plan_fails_with = error(secret)
    stand = make_stand(gate=gate)
    answer = await stand.post({"base64_Photo_String": PHOTO})
    cd, description = documented_client(answer)
    assert cd == error.cd
    assert str(description).startswith(SENTENCES[cd])
    assert "hunter2" not in answer.text
    assert stand.gate.requests == 0


@pytest.mark.parametrize(
    ("error", "cd"),
    [
        (PhotoDecodeError("damaged"), "2001"),
        (DetectionError("inference"), "2001"),
        (EncodeError("full disk"), "2001"),
        (PlateblurError("other"), "2001"),
        (PhotoTooLargeError("pixels"), "1014"),
        (RuntimeError("/srv/secret/path"), "2001"),
        (MemoryError(), "2001"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_a_photo_that_fails_is_given_back(error: Exception, cd: str) -> None:
    stand = make_stand(blur=FakeBlur(fails_with=error))
    answer = await stand.post({"base64_Photo_String": PHOTO})
    told, description = documented_client(answer)
    assert told == cd
    assert str(description).startswith(SENTENCES[cd])
    assert answer.headers["x-request-id"] in str(description)
    assert "secret" not in answer.text
    assert (stand.gate.requests, stand.gate.predictions) == (0, 0)


async def test_a_damaged_photo_is_2001() -> None:
    damaged = photo_bytes()[:40]
    answer = await make_stand().post({"base64_Photo_String": text_of(damaged)})
    assert documented_client(answer)[0] == "2001"


async def test_a_month_that_ends_with_this_photo_is_1004_and_given_back() -> None:
    stand = make_stand(gate=FakeGate(settle_fails_with=PaidQuotaError()))
    answer = await stand.post({"base64_Photo_String": PHOTO})
    assert documented_client(answer)[0] == "1004"
    assert stand.gate.requests == 0


async def test_the_fifty_first_request_is_1002() -> None:
    stand = make_stand()
    codes = [
        documented_client(await stand.post({"base64_Photo_String": PHOTO}))[0] for _ in range(51)
    ]
    assert codes == ["answer"] * 50 + ["1002"]


class TestTheOrderOfTheChecks:
    async def test_credentials_go_before_the_plan(self) -> None:
        stand = make_stand(gate=FakeGate(plan_fails_with=NoInvoiceError()))
        answer = await stand.post(b"".decode(), authorization=basic(USER, "wrong"))
        assert documented_client(answer)[0] == "1015"

    async def test_the_plan_goes_before_the_body(self) -> None:
        stand = make_stand(gate=FakeGate(plan_fails_with=TrialStoreError()))
        answer = await stand.post([])
        assert documented_client(answer)[0] == "1009"

    async def test_the_body_goes_before_the_quota(self) -> None:
        stand = make_stand(gate=FakeGate(limit=0))
        assert documented_client(await stand.post([]))[0] == "1014"

    async def test_the_quota_goes_before_the_photo(self) -> None:
        stand = make_stand(gate=FakeGate(limit=0), blur=FakeBlur(fails_with=DetectionError()))
        answer = await stand.post({"base64_Photo_String": PHOTO})
        assert documented_client(answer)[0] == "1002"


@pytest.mark.parametrize("cd", sorted(STATUSES))
async def test_a_setting_turns_real_status_codes_on(cd: str) -> None:
    gate, blur = FakeGate(), FakeBlur()
    kinds = {kind.cd: kind for kind in access_errors()}
    body: object = {"base64_Photo_String": PHOTO}
    if cd in kinds:
        gate.plan_fails_with = kinds[cd]()
    elif cd == "2001":
        blur.fails_with = DetectionError()
    elif cd == "1013":
        body = {"base64_Photo_String": "A" * 5 * 1024 * 1024}
    elif cd == "1014":
        body = []
    stand = make_stand(gate=gate, blur=blur, settings=Settings(real_status_codes=True))
    answer = await stand.post(body, authorization="" if cd == "1001" else None)
    assert answer.status_code == STATUSES[cd]
    assert answer.json()[0]["cd"] == cd
    assert ("www-authenticate" in answer.headers) is (answer.status_code == 401)


async def test_get_is_no_way_to_ask() -> None:
    answer = await make_stand().client.get("/plateblurer.aspx")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
