"""What a client is told that sends something else than expected: the field, and what is wrong."""

from __future__ import annotations

import pytest

from plateblur.web.body import parse_json_object
from plateblur.web.failures import Failure
from plateblur.web.job_forms import MAX_NAME_CHARS, _name
from plateblur.web.plateblurer import parse_asked


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"{", "The body is not valid JSON."),
        (b"[]", "The body must be a JSON object."),
        (b'{"a": NaN}', "The body is not valid JSON."),
    ],
)
def test_what_is_no_json_object_is_said(body: bytes, cause: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_json_object(body)
    assert (refused.value.cd, refused.value.cause) == ("1014", cause)


def test_a_byte_order_mark_is_let_pass() -> None:
    assert parse_json_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_the_field_with_broken_base64_is_named() -> None:
    with pytest.raises(Failure) as refused:
        parse_asked(b'{"base64_Photo_String": "%%%%"}')
    assert refused.value.cd == "1014"
    assert refused.value.cause == "base64_Photo_String is not valid base64."


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("a/b/photo.jpg", "photo.jpg"),
        ("C:\\photos\\photo.jpg", "photo.jpg"),
        ("photos/", "photos"),
        ("photosXX", "photosXX"),
        ("https://example.com/a/b.jpg", "https://example.com/a/b.jpg"),
        ("a\x00\u202eb.jpg", "ab.jpg"),
        ("x" * 2 * MAX_NAME_CHARS, "x" * MAX_NAME_CHARS),
    ],
)
def test_a_photo_is_called_by_the_last_part_of_its_name(sent: str, name: str) -> None:
    assert _name(sent) == name
