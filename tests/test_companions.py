"""What else a photo's file holds is dropped and said, and nothing that points to it is kept."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from plateblur import cli
from plateblur.companions import CLIP, DEPTH, GAIN
from plateblur.metadata import apply_policy
from plateblur.photo import decode
from plateblur.pipeline import DEFAULTS, blur_photo
from tests.fakes import FixedDetector, boxes, encoded, street

PLATE = FixedDetector(boxes([40, 30, 90, 48]))
CASES = Path(__file__).parents[2] / "shared" / "cases"
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:OpCamera="http://ns.oplus.com/photos/1.0/camera/"
 xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="42320"
 GCamera:MotionPhotoPresentationTimestampUs="500" OpCamera:VideoLength="42320"
 GDepth:Format="RangeInverse" dc:format="image/jpeg">
<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">
<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="31679"/>
</rdf:li></rdf:Seq></Container:Directory>
<dc:creator><rdf:Seq><rdf:li>A. Nybody</rdf:li></rdf:Seq></dc:creator>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def stereo() -> bytes:
    out = io.BytesIO()
    one, other = (PillowImage.fromarray(street(96, 144, seed=seed)) for seed in (0, 1))
    one.save(out, "MPO", save_all=True, append_images=[other])
    return out.getvalue()


def burst(count: int) -> bytes:
    heif = pillow_heif.from_pillow(PillowImage.fromarray(street(96, 144)))
    for seed in range(1, count):
        heif.add_from_pillow(PillowImage.fromarray(street(96, 144, seed=seed)))
    out = io.BytesIO()
    heif.save(out, save_all=True)
    return out.getvalue()


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + len(content), name) + content


def with_item(data: bytes, content: bytes) -> bytes:
    """Return an AVIF with one more item, of which nothing is stored.

    In a second list of items at its end, so that everything else stays where it is.
    """
    return data + box(b"meta", bytes(4) + box(b"iinf", bytes(4) + b"\0\1" + box(b"infe", content)))


ONE = encoded(street(96, 144))
HEIC, AVIF = encoded(street(96, 144), "HEIF"), encoded(street(96, 144), "AVIF", speed=10)
TONE_MAPPED = b"\2\0\0\0\0\7\0\0tmap\0"
CLIP_BEHIND = b"\0\0\0\x18ftypmp42" + bytes(500)
KINDS: dict[str, tuple[bytes, int, tuple[str, ...]]] = {
    "plain": (ONE, 0, ()),
    "padded": (ONE + bytes(100), 0, ()),
    "stereo": (stereo(), 1, ("1 more picture in it dropped",)),
    "behind": (ONE + ONE + ONE, 2, ("2 more pictures in it dropped",)),
    "gain-map": (ONE + encoded(street(), xmp=XMP.encode()), 0, (GAIN,)),
    "named-by-the-photo": (encoded(street(96, 144), xmp=XMP.encode()) + ONE, 0, (GAIN, CLIP)),
    "depth-map": (ONE + encoded(street(), xmp=b"photos/1.0/depthmap/"), 0, (DEPTH,)),
    "clip": (ONE + CLIP_BEHIND, 0, (CLIP,)),
    "clip-in-heic": (HEIC + box(b"mpvd", CLIP_BEHIND), 0, (CLIP,)),
    "clip-in-avif": (AVIF + box(b"mpvd", CLIP_BEHIND), 0, (CLIP,)),
    "clip-behind-heic": (HEIC + CLIP_BEHIND, 0, (CLIP,)),
    "behind-heic": (HEIC + ONE, 1, ("1 more picture in it dropped",)),
    "behind-avif": (AVIF + bytes(3) + ONE + ONE, 2, ("2 more pictures in it dropped",)),
    "gain-map-of-avif": (with_item(AVIF, TONE_MAPPED), 0, (GAIN,)),
    "plain-heic": (HEIC, 0, ()),
    "plain-avif": (AVIF, 0, ()),
    "burst": (burst(3), 2, ("2 more pictures in it dropped",)),
}


@pytest.mark.parametrize(("data", "pictures", "notes"), KINDS.values(), ids=KINDS)
def test_what_is_dropped_is_said(data: bytes, pictures: int, notes: tuple[str, ...]) -> None:
    blurred = blur_photo(data, PLATE)
    assert blurred.pictures_dropped == pictures
    assert blurred.notes == notes
    again = decode(blurred.data)
    assert (again.pictures_dropped, again.notes) == (0, ())


def test_a_thumbnail_is_no_further_picture() -> None:
    thumbnail = encoded(street(24, 36))
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(4) + thumbnail
    assert decode(encoded(street(96, 144), exif=exif)).pictures_dropped == 0


def test_metadata_that_points_to_what_is_gone_goes_too_and_the_rest_stays() -> None:
    photo = decode(encoded(street(96, 144), xmp=XMP.encode()))
    kept = apply_policy(photo.metadata, "keep").xmp or b""
    for gone in (
        *(b"hdr-gain-map", b"MotionPhoto", b"MicroVideo", b"container", b"GainMap", b"42320"),
        *(b"depthmap", b"oplus"),
    ):
        assert gone not in kept
    assert b"A. Nybody" in kept
    assert b"image/jpeg" in kept


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool isn't installed")
@pytest.mark.parametrize("exact", [False, True], ids=["encoded", "exact"])
def test_exiftool_finds_nothing_that_points_to_what_is_gone(exact: bool, tmp_path: Path) -> None:
    if exact:
        pytest.importorskip("jpeglib")
    given = CASES / "ultrahdr-gainmap-and-motion-photo.jpg"
    data = given.read_bytes() if given.exists() else KINDS["named-by-the-photo"][0]
    options = replace(DEFAULTS, metadata="keep", exact=exact)
    (tmp_path / "a.jpg").write_bytes(blur_photo(data, PLATE, options).data)
    told = subprocess.run(
        ["exiftool", "-a", "-j", "-G1", str(tmp_path / "a.jpg")],
        capture_output=True,
        check=True,
    )
    tags = json.loads(told.stdout)[0]
    pointing = ("Motion", "MicroVideo", "hdrgm", "Container", "MPF", "MPImage", "Trailer")
    assert [tag for tag in tags if any(word in tag for word in pointing)] == []


def test_in_place_refuses_to_lose_a_picture_unless_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: PLATE)
    photo = tmp_path / "a.jpg"
    photo.write_bytes(stereo())
    run = CliRunner()
    refused = run.invoke(cli.app, ["blur", str(photo), "--in-place"])
    assert refused.exit_code == 1
    assert "another picture, which --drop-other-pictures drops" in refused.output
    assert photo.read_bytes() == stereo()
    done = run.invoke(
        cli.app, ["blur", str(photo), "--in-place", "--drop-other-pictures", "--retry-failed"]
    )
    assert done.exit_code == 0
    assert "1 photo: 1 more picture in it dropped" in done.output
    assert photo.read_bytes() != stereo()


def test_the_report_and_the_json_say_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: PLATE)
    (tmp_path / "a.jpg").write_bytes(stereo())
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    done = CliRunner().invoke(
        cli.app,
        ["blur", str(tmp_path / "a.jpg"), "-o", str(out), "--json", "--report", str(report)],
    )
    assert done.exit_code == 0
    note = "1 more picture in it dropped"
    assert json.loads(done.stdout)["notes"] == {note: 1}
    assert json.loads(report.read_text())["notes"] == [note]
