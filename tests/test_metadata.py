"""What of a photo's metadata leaves: by policy, and never a picture of the plate."""

from __future__ import annotations

import base64
import io
import re
import struct
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, ImageCms, PngImagePlugin
from PIL import Image as PillowImage

from plateblur.display import Display
from plateblur.metadata import (
    IPTC_RESOURCE,
    RDF,
    Metadata,
    apply_policy,
    orientation,
    panorama_tags,
)
from plateblur.photo import decode, encode
from plateblur.types import MetadataPolicy
from tests.fakes import encoded, opened, street

POLICIES = get_args(MetadataPolicy)
STREET = street(64, 96)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
THUMBNAIL = encoded(street(16, 24, seed=5), quality=40)
assert len(THUMBNAIL) < 1500  # as small as a camera's smallest: no limit of length catches it
TEXT64 = base64.b64encode(THUMBNAIL).decode()
LINES64 = base64.encodebytes(THUMBNAIL).decode()

GPANO = "xmlns:GPano='http://ns.google.com/photos/1.0/panorama/'"
XMP = f"""<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'>
 <rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
  <rdf:Description rdf:about='' {GPANO}
    xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmlns:xmpGImg='http://ns.adobe.com/xap/1.0/g/img/'
    xmlns:GImage='http://ns.google.com/photos/1.0/image/'
    xmlns:xmpNote='http://ns.adobe.com/xmp/note/' xmlns:dc='http://purl.org/dc/elements/1.1/'
    xmlns:exif='http://ns.adobe.com/exif/1.0/' xmlns:tiff='http://ns.adobe.com/tiff/1.0/'
    GPano:ProjectionType='equirectangular' GPano:Owner='Ann Owner' exif:GPSLatitude='48,8.5N'
    tiff:Orientation='1' GImage:Mime='image/jpeg' GImage:Data='{TEXT64}'
    xmpNote:HasExtendedXMP='0123456789ABCDEF0123456789ABCDEF'>
   <GPano:FullPanoWidthPixels>6000</GPano:FullPanoWidthPixels>
   <dc:creator><rdf:Seq><rdf:li>Ann Owner</rdf:li></rdf:Seq></dc:creator>
   <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'>
     <xmpGImg:format>JPEG</xmpGImg:format><xmpGImg:image>{LINES64}</xmpGImg:image>
   </rdf:li></rdf:Alt></xmp:Thumbnails>
   <exif:UserComment>kept remark</exif:UserComment>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta><?xpacket end='w'?>""".encode()

Fields = dict[int, tuple[int, int, bytes]]


def ascii_field(text: str) -> tuple[int, int, bytes]:
    return 2, len(text) + 1, text.encode() + b"\0"


def bytes_field(data: bytes, *, type_: int = 7) -> tuple[int, int, bytes]:
    return type_, len(data), data


def directory(fields: Fields, order: str, offset: int, *, following: int = 0) -> bytes:
    entries, values = b"", b""
    values_at = offset + 2 + 12 * len(fields) + 4
    for tag, (type_, count, data) in sorted(fields.items()):
        entries += struct.pack(order + "HHL", tag, type_, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "L", values_at + len(values))
            values += data
    head = struct.pack(order + "H", len(fields)) + entries
    return head + struct.pack(order + "L", following) + values


def exif_with_everything(order: str = "<", *, turned: int = 1) -> bytes:
    """Return what a camera writes, its thumbnail in IFD1 and a preview in MakerNote included."""
    main: Fields = {
        0x0100: (4, 1, struct.pack(order + "L", 96)),
        0x010F: ascii_field("Cameramaker"),
        0x0110: ascii_field("Model One"),
        0x0112: (3, 1, struct.pack(order + "H", turned)),
        0x011A: (5, 1, struct.pack(order + "LL", 72, 1)),
        0x0132: ascii_field("2026:11:22 11:00:00"),
        0x013B: ascii_field("Ann Owner"),
        0x02BC: bytes_field(XMP, type_=1),
        0x8649: bytes_field(b"8BIM\x04\x0c\0\0" + THUMBNAIL),
        0xC634: bytes_field(b"Adobe\0" + b"\x01" + THUMBNAIL[1:]),
        0x9C9C: bytes_field("a remark".encode("utf-16-le"), type_=1),
    }
    exif: Fields = {
        0x829A: (5, 1, struct.pack(order + "LL", 1, 250)),
        0x9003: ascii_field("2026:11:22 10:59:59"),
        0x927C: bytes_field(b"MakerNote\0\1" + THUMBNAIL),
        0x9286: bytes_field(b"ASCII\0\0\0" + TEXT64.encode()),
        0xA002: (4, 1, struct.pack(order + "L", 96)),
        0xA430: ascii_field("Ann Owner"),
        0xA431: ascii_field("SERIAL-123"),
        0xA434: ascii_field("Lens 50mm"),
    }
    place: Fields = {
        0x0001: ascii_field("N"),
        0x0002: (5, 3, struct.pack(order + "6L", 48, 1, 8, 1, 30, 1)),
        0x001D: ascii_field("2026:11:22"),
    }
    main[0x8769] = main[0x8825] = (4, 1, b"\0" * 4)
    exif_at = 8 + len(directory(main, order, 8))
    place_at = exif_at + len(directory(exif, order, exif_at))
    thumb_at = place_at + len(directory(place, order, place_at))
    main[0x8769] = (4, 1, struct.pack(order + "L", exif_at))
    main[0x8825] = (4, 1, struct.pack(order + "L", place_at))
    thumb: Fields = {
        0x0103: (3, 1, struct.pack(order + "H", 6)),
        0x0201: (4, 1, b"\0" * 4),
        0x0202: (4, 1, struct.pack(order + "L", len(THUMBNAIL))),
    }
    jpeg_at = thumb_at + len(directory(thumb, order, thumb_at))
    thumb[0x0201] = (4, 1, struct.pack(order + "L", jpeg_at))
    return (
        b"Exif\0\0"
        + {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(order + "L", 8)
        + directory(main, order, 8, following=thumb_at)
        + directory(exif, order, exif_at)
        + directory(place, order, place_at)
        + directory(thumb, order, thumb_at)
        + THUMBNAIL
    )


def iptc_dataset(number: int, dataset: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, number, dataset, len(value)) + value


IPTC = iptc_dataset(2, 120, b"kept caption")
IPTC_PREVIEW = iptc_dataset(2, 202, b"\0preview" + THUMBNAIL[3:])


def photoshop(*resources: tuple[int, bytes]) -> bytes:
    blocks = (
        b"8BIM" + struct.pack(">HHL", number, 0, len(data)) + data + b"\0" * (len(data) % 2)
        for number, data in resources
    )
    return b"Photoshop 3.0\0" + b"".join(blocks)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with_everything() -> bytes:
    plain = encoded(STREET, exif=exif_with_everything(), xmp=XMP, icc_profile=SRGB)
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + b"\0" * 8 + TEXT64.encode()
    resources = ((0x040C, b"\0" * 28 + THUMBNAIL), (IPTC_RESOURCE, IPTC + IPTC_PREVIEW))
    extra = (
        segment(0xED, photoshop(*resources))
        + segment(0xE1, extended)
        + segment(0xE0, b"JFXX\0\x10" + THUMBNAIL)
        + segment(0xE2, b"FPXR\0" + THUMBNAIL)
        + segment(0xFE, b"kept comment")
    )
    return plain[:2] + extra + plain[2:] + THUMBNAIL


def png_with_everything() -> bytes:
    text = PngImagePlugin.PngInfo()
    block = exif_with_everything()
    lines = "\n".join(block.hex()[i : i + 72] for i in range(0, 2 * len(block), 72))
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{lines}\n")
    text.add_text("Raw profile type APP1", f"\nAPP1\n{len(block):8}\n{lines}\n", zip=True)
    text.add_text("Thumbnail", TEXT64)
    text.add_text("Thumb::Image", "data:image/jpeg;base64," + TEXT64)
    text.add_text("Hex", THUMBNAIL.hex())
    text.add_text("Lines", "picture:\n" + LINES64)
    text.add_text("Comment", "kept comment")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encoded(STREET, "PNG", pnginfo=text, exif=block, icc_profile=SRGB)


PHOTOS: dict[str, bytes] = {
    "jpeg": jpeg_with_everything(),
    "png": png_with_everything(),
    **{
        format_.lower(): encoded(
            STREET, format_, exif=exif_with_everything(), xmp=XMP, icc_profile=SRGB
        )
        for format_ in ("WEBP", "AVIF", "HEIF")
    },
}


def written(data: bytes, policy: MetadataPolicy) -> bytes:
    photo = decode(data)
    return encode(photo, photo.pixels, metadata=policy)


def leaks(data: bytes) -> list[str]:
    """Return in which disguises the planted thumbnail is in `data`."""
    piece = THUMBNAIL[100:160]  # from the middle: no marker, table or start to give it away
    texts = [
        b"".join(data.split()),
        *(value.encode("utf-8", "replace") for value in map(str, opened(data).info.values())),
    ]
    found = ["bytes"] if piece in data else []
    for shift in range(3):  # base64 of the same bytes looks different at each offset
        encoded_piece = base64.b64encode(piece[shift : shift + 57])[4:-4]
        found += [f"base64+{shift}"] * any(encoded_piece in text for text in texts)
    found += ["hex"] * any(piece.hex().encode() in text.lower() for text in texts)
    return found


@pytest.mark.parametrize("data", PHOTOS.values(), ids=PHOTOS)
def test_the_photos_of_these_tests_hold_the_thumbnail(data: bytes) -> None:
    assert leaks(data)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("data", PHOTOS.values(), ids=PHOTOS)
def test_no_thumbnail_leaves_under_any_policy(data: bytes, policy: MetadataPolicy) -> None:
    assert leaks(written(data, policy)) == []


@pytest.mark.parametrize("data", PHOTOS.values(), ids=PHOTOS)
def test_strip_leaves_the_colour_profile_and_a_panorama_s_projection(data: bytes) -> None:
    photo = decode(written(data, "strip"))
    assert photo.metadata.icc == SRGB
    only_colours = replace(photo.metadata, xmp=None, display=Display())
    assert only_colours == Metadata(
        icc=SRGB
    )  # and how it is shown, which tests/test_display.py holds
    assert panorama_tags(photo.metadata.xmp) == {
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": "6000",
    }
    for mark in (b"Cameramaker", b"Ann Owner", b"kept", b"GPS", b"2026"):
        assert mark not in written(data, "strip")


HARMLESS = {"ProjectionType": "equirectangular", "PosePitchDegrees": "-1.5"}


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (HARMLESS, HARMLESS),
        (HARMLESS | {"PoseHeadingDegrees": "77.5"}, HARMLESS),
        (HARMLESS | {"InitialViewHeadingDegrees": "77"}, HARMLESS),
        (HARMLESS | {"FirstPhotoDate": "2026-11-22T11:00:00Z"}, HARMLESS),
        (HARMLESS | {"CaptureSoftware": "Photo Sphere"}, HARMLESS),
        (HARMLESS | {"Owner": "Ann"}, HARMLESS),
        (HARMLESS | {"FullPanoWidthPixels": "48,8.5N"}, HARMLESS),
        (HARMLESS | {"FullPanoHeightPixels": "Ann Owner"}, HARMLESS),
        (HARMLESS | {"UsePanoramaViewer": "True"}, HARMLESS | {"UsePanoramaViewer": "True"}),
        ({"FullPanoWidthPixels": "6000"}, {}),
        ({"ProjectionType": "2026:11:22"}, {}),
    ],
    ids=[
        *("projection", "heading", "first-view", "time", "software", "owner", "place-as-number"),
        *("name-as-number", "viewer", "no-projection", "time-as-projection"),
    ],
)
def test_strip_keeps_of_a_panorama_what_shows_it_and_no_place_time_or_heading(
    tags: dict[str, str], kept: dict[str, str]
) -> None:
    inside = " ".join(f"GPano:{name}='{value}'" for name, value in tags.items())
    packet = f"<rdf:Description xmlns:rdf='{RDF}' {GPANO} {inside}/>".encode()
    stripped = apply_policy(Metadata(xmp=packet), "strip")
    assert panorama_tags(stripped.xmp) == kept
    assert (stripped.xmp is None) == (not kept)
    text = (stripped.xmp or b"").decode()
    assert set(re.findall(r"GPano:(\w+)=", text)) == set(kept)


SAFE = {0x010F: "Cameramaker", 0x0110: "Model One", 0x0132: "2026:11:22 11:00:00"}
SAFE_EXIF: dict[int, Any] = {
    0x9003: "2026:11:22 10:59:59",
    0x829A: pytest.approx(1 / 250),
    0xA434: "Lens 50mm",
}


@pytest.mark.parametrize("data", PHOTOS.values(), ids=PHOTOS)
def test_safe_keeps_capture_time_camera_and_panorama_alone(data: bytes) -> None:
    data = written(data, "safe")
    exif = opened(data).getexif()
    assert {tag: value for tag, value in exif.items() if tag not in (0x8769, 0x0112)} == SAFE
    assert dict(exif.get_ifd(ExifTags.IFD.Exif)) == SAFE_EXIF
    assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    xmp = decode(data).metadata.xmp or b""
    assert b'GPano:ProjectionType="equirectangular"' in xmp
    assert b'GPano:FullPanoWidthPixels="6000"' in xmp
    for mark in (b"Ann Owner", b"SERIAL", b"48,8.5N", b"kept", b"GImage", b"Thumbnails"):
        assert mark not in data


@pytest.mark.parametrize("data", PHOTOS.values(), ids=PHOTOS)
def test_keep_keeps_what_is_no_picture(data: bytes) -> None:
    data = written(data, "keep")
    exif = opened(data).getexif()
    assert SAFE.items() <= dict(exif).items()
    assert exif[0x013B] == "Ann Owner"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[0xA431] == "SERIAL-123"
    assert SAFE_EXIF.items() <= dict(details).items() or all(
        details[tag] == value for tag, value in SAFE_EXIF.items()
    )
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert [float(part) for part in place[2]] == [48, 8, 30]
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert not {0x927C, 0x9286, 0xA002} & set(details)
    assert not {0x0100, 0x02BC, 0x8649, 0xC634} & set(exif)
    xmp = decode(data).metadata.xmp or b""
    for mark in (b"equirectangular", b"Ann Owner", b"48,8.5N", b"kept remark"):
        assert mark in xmp
    for mark in (b"Thumbnails", b"GImage:Data", b"HasExtendedXMP", b"Orientation"):
        assert mark not in xmp


def test_keep_keeps_a_jpegs_caption_and_comment() -> None:
    data = written(PHOTOS["jpeg"], "keep")
    assert decode(data).metadata.iptc == IPTC
    assert decode(data).metadata.comment == b"kept comment"
    assert b"Photoshop 3.0" in data
    assert b"\x04\x0c" not in data[data.index(b"Photoshop 3.0") :][:60]


def test_keep_keeps_a_pngs_texts_and_not_its_raw_profiles() -> None:
    texts = dict(decode(written(PHOTOS["png"], "keep")).metadata.text)
    assert texts == {"Comment": "kept comment"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("turned", [1, 3, 6])
def test_no_orientation_leaves(policy: MetadataPolicy, order: str, turned: int) -> None:
    block = exif_with_everything(order, turned=turned)
    assert orientation(block) == turned
    kept = apply_policy(Metadata(exif=block), policy).exif
    assert orientation(kept) == 1
    assert 0x0112 not in opened(encoded(STREET, exif=kept or b"")).getexif()


def test_an_orientation_in_xmp_is_followed_and_does_not_leave() -> None:
    xmp = XMP.replace(b"tiff:Orientation='1'", b'tiff:Orientation="6"')
    photo = decode(encoded(STREET, "WEBP", xmp=xmp, lossless=True))
    assert photo.image_hw == (96, 64)
    again = decode(encode(photo, photo.pixels, metadata="keep"))
    assert np.array_equal(again.pixels, photo.pixels)


def test_a_kept_block_in_big_endian_reads_the_same() -> None:
    blocks = [
        apply_policy(Metadata(exif=exif_with_everything(order)), "keep").exif or b""
        for order in "<>"
    ]
    little, big = (opened(encoded(STREET, exif=block)).getexif() for block in blocks)
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        assert dict(little.get_ifd(ifd)) == dict(big.get_ifd(ifd))
    pointers = (0x8769, 0x8825)
    assert {t: v for t, v in little.items() if t not in pointers} == {
        t: v for t, v in big.items() if t not in pointers
    }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "damaged",
    [
        Metadata(exif=b"Exif\0\0garbage and more of it"),
        Metadata(exif=b"II*\0\xff\xff\xff\xff"),
        Metadata(exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 80),
        Metadata(xmp=b"<x:xmpmeta><unclosed>"),
        Metadata(xmp=b"\xff\xfe\0\0"),
        Metadata(xmp=b"<?xml version='1.0' encoding='no-such'?><a/>"),
        Metadata(xmp=b"<!DOCTYPE a [<!ENTITY b 'ccc'>]><a>&b;</a>"),
        Metadata(xmp=b"<a>" * 20_000 + b"</a>" * 20_000),
        Metadata(xmp=b"<a>" + b" " * (1 << 20) + b"</a>"),
        Metadata(iptc=b"\x1c\2\5\xff\xffshort"),
        Metadata(iptc=b"no record"),
        Metadata(iptc=b"\x1c\2"),
    ],
    ids=[
        *("exif-no-header", "exif-far", "exif-wild", "xmp-unclosed", "xmp-no-text"),
        *("xmp-no-encoding", "xmp-entities", "xmp-deep", "xmp-long"),
        *("iptc-short", "iptc-none", "iptc-cut"),
    ],
)
def test_a_damaged_block_is_left_out(damaged: Metadata, policy: MetadataPolicy) -> None:
    assert apply_policy(damaged, policy) == Metadata()


def test_fields_that_reach_beyond_the_block_are_left_out() -> None:
    fields: Fields = {0x010F: ascii_field("Cameramaker"), 0x0110: ascii_field("Model One")}
    block = b"II*\0\x08\0\0\0" + directory(fields, "<", 8)
    kept = apply_policy(Metadata(exif=block[:-6]), "keep").exif or b""
    assert b"Cameramaker" in kept
    assert b"Model" not in kept


@given(st.data())
def test_flipped_bytes_of_exif_never_raise_and_never_let_the_thumbnail_out(
    drawn: st.DataObject,
) -> None:
    block = bytearray(exif_with_everything())
    # The headers alone: a flip inside the thumbnail would only hide it from the search.
    end = bytes(block).index(THUMBNAIL)
    for at in drawn.draw(st.lists(st.integers(6, end - 1), min_size=1, max_size=6)):
        block[at] = drawn.draw(st.integers(0, 255))
    for policy in ("safe", "keep"):
        kept = apply_policy(Metadata(exif=bytes(block)), policy).exif
        assert THUMBNAIL[100:160] not in (kept or b"")


@given(st.binary(max_size=200))
def test_any_bytes_as_metadata_are_kept_or_left_out(data: bytes) -> None:
    for prefix in (b"", b"Exif\0\0MM\0*\0\0\0\x08"):
        found = Metadata(exif=prefix + data, xmp=data, iptc=data, comment=data)
        for policy in ("safe", "keep"):
            apply_policy(found, policy)
        assert 1 <= orientation(prefix + data) <= 8


@pytest.mark.parametrize(
    "text",
    [
        "A caption of ordinary length, with a long-hyphenated-word and an https://example.org/9j",
        "D41D8CD98F00B204E9800998ECF8427E",
        "xmp.did:0180117407206811822AAAF8DFAF2F83",
        "x" * 100,
    ],
    ids=["caption", "digest", "identifier", "long-word"],
)
def test_ordinary_texts_are_no_pictures(text: str) -> None:
    kept = apply_policy(Metadata(comment=text.encode(), text=(("Comment", text),)), "keep")
    assert kept == Metadata(comment=text.encode(), text=(("Comment", text),))


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'strip', 'safe' or 'keep'"):
        apply_policy(Metadata(), "all")  # type: ignore[arg-type]


def test_uncompressed_thumbnails_stay_behind_too() -> None:
    """TIFF strips in IFD1, which some cameras write instead of a JPEG."""
    pixels = street(120, 160, seed=2).tobytes()
    main: Fields = {0x0110: ascii_field("Model One")}
    second_at = 8 + len(directory(main, "<", 8))
    strips: Fields = {0x0111: (4, 1, struct.pack("<L", second_at + 42))}
    block = b"Exif\0\0II*\0\x08\0\0\0" + directory(main, "<", 8, following=second_at)
    block += directory(strips, "<", second_at).ljust(42, b"\0") + pixels[:20_000]
    data = written(encoded(STREET, exif=block), "keep")
    assert b"Model One" in data
    assert pixels[500:540] not in data
    assert PillowImage.open(io.BytesIO(data)).getexif().get_ifd(ExifTags.IFD.IFD1) == {}
