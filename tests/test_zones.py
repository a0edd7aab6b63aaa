"""Zones: a plate is ignored only where all of it lies in one, and what is always hidden is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plateblur.errors import PhotoDecodeError
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions, Detections, Method
from plateblur.zones import NO_ZONES, MaskZone, Rectangle, Zone, Zones, mask_zone, rectangle
from tests.fakes import FixedDetector, boxes, encoded, street

STREET = street(100, 200)
PHOTO = encoded(STREET, "PNG")
PLATE = [40.0, 60.0, 80.0, 80.0]  # of 200 x 100: 0.2,0.6,0.4,0.8
HW = (100, 200)


def mask(left: int, top: int, right: int, bottom: int, hw: tuple[int, int] = HW) -> MaskZone:
    drawn = np.zeros(hw, np.bool_)
    drawn[top:bottom, left:right] = True
    return MaskZone(drawn)


def found(*xyxy: list[float]) -> Detections:
    return Detections(boxes(*xyxy), np.full(len(xyxy), 0.9, np.float32))


@pytest.mark.parametrize(
    ("zones", "ignored"),
    [
        ([], False),
        ([Rectangle(0.2, 0.6, 0.4, 0.8)], True),
        ([Rectangle(0.0, 0.5, 1.0, 1.0)], True),
        ([Rectangle(0.205, 0.6, 0.4, 0.8)], False),
        ([Rectangle(0.2, 0.6, 0.4, 0.795)], False),
        ([Rectangle(0.0, 0.0, 0.3, 1.0)], False),
        ([Rectangle(0.0, 0.0, 0.3, 1.0), Rectangle(0.3, 0.0, 1.0, 1.0)], True),
        ([Rectangle(0.0, 0.0, 0.29, 1.0), Rectangle(0.31, 0.0, 1.0, 1.0)], False),
        ([mask(40, 60, 80, 80)], True),
        ([mask(41, 60, 80, 80)], False),
        ([mask(20, 30, 40, 40, (50, 100))], True),
        ([mask(21, 30, 40, 40, (50, 100))], False),
        ([mask(0, 0, 50, 100), Rectangle(0.25, 0.0, 1.0, 1.0)], True),
    ],
    ids=[
        *("none", "exactly", "larger", "a-pixel-short-left", "a-pixel-short-below", "half"),
        *("two-that-meet", "two-with-a-gap", "mask", "mask-a-pixel-short", "half-size-mask"),
        *("half-size-mask-short", "mask-and-rectangle"),
    ],
)
def test_a_plate_is_ignored_where_all_of_it_lies_in_zones(zones: list[Zone], ignored: bool) -> None:
    assert Zones(ignore=tuple(zones)).is_ignored(found(PLATE), HW).tolist() == [ignored]


def test_a_plate_beyond_the_edge_is_judged_by_what_is_in_the_photo() -> None:
    whole = Zones(ignore=(Rectangle(0, 0, 1, 1),))
    answer = whole.is_ignored(
        found([-5, -5, 20, 20], [190, 90, 230, 130], [300, 300, 310, 310]), HW
    )
    assert answer.tolist() == [True, True, False]


def test_ignored_plates_stay_visible_and_are_counted() -> None:
    other = [140.0, 20.0, 180.0, 40.0]
    detector = FixedDetector(boxes(PLATE, other), (0.9, 0.8))
    zones = Zones(ignore=(Rectangle(0.0, 0.5, 1.0, 1.0),))
    blurred = blur_photo(PHOTO, detector, zones=zones)
    assert (blurred.ignored, len(blurred.detections), blurred.predictions_counted) == (1, 1, 2)
    assert (decode(blurred.data).pixels[60:80, 40:80] == STREET[60:80, 40:80]).all()
    assert not (decode(blurred.data).pixels[20:40, 140:180] == STREET[20:40, 140:180]).all()


def test_what_is_not_confident_enough_is_not_counted_as_ignored() -> None:
    detector = FixedDetector(boxes(PLATE), (0.2,))
    zones = Zones(ignore=(Rectangle(0, 0, 1, 1),))
    assert blur_photo(PHOTO, detector, zones=zones).ignored == 0


@pytest.mark.parametrize("method", ["veil", "solid"])
@pytest.mark.parametrize(
    "zone", [Rectangle(0.5, 0.0, 1.0, 0.25), mask(100, 0, 200, 25)], ids=["rectangle", "mask"]
)
def test_a_zone_is_hidden_without_a_plate_also_in_its_opacity(method: Method, zone: Zone) -> None:
    opacity = np.full((100, 200, 1), 255, np.uint8)
    opacity[5:20, 110:190] = 0
    photo = encoded(_as_rgba(np.dstack([STREET, opacity])), "PNG")
    blurred = blur_photo(
        photo, FixedDetector(), BlurOptions(method=method, mask=True), zones=Zones(hide=(zone,))
    )
    shown = decode(blurred.data)
    assert shown.alpha is None or (shown.alpha[:25, 100:] == 255).all()
    assert (shown.pixels[40:] == STREET[40:]).all()
    assert (shown.pixels[:25, 100:] == STREET[:25, 100:]).all(axis=2).mean() < 0.05
    assert blurred.mask is not None
    assert (blurred.mask[:25, 100:] == 65_535).all()
    assert not blurred.mask[25:].any()
    assert not blurred.mask[:, :100].any()


def _as_rgba(pixels: Any) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def test_a_plate_in_a_zone_to_ignore_is_hidden_where_the_zone_is_hidden_too() -> None:
    zone = Rectangle(0, 0, 1, 1)
    blurred = blur_photo(PHOTO, FixedDetector(boxes(PLATE)), zones=Zones((zone,), (zone,)))
    assert (decode(blurred.data).pixels == STREET).all(axis=2).mean() < 0.05


def test_zones_of_two_sources_are_all_kept_and_tell_themselves_apart() -> None:
    left, right = Rectangle(0, 0, 0.5, 1), Rectangle(0.5, 0, 1, 1)
    one, other = Zones((left,), (right,)), Zones((right,), (left,))
    both = one.and_those(other)
    assert (both.ignore, both.hide) == ((left, right), (right, left))
    named = [zones.named() for zones in (one, other, both, NO_ZONES)]
    assert len(set(named)) == 4
    assert one.named() == Zones((left,), (right,)).named()  # so a run can be continued


@pytest.mark.parametrize("text", ["0,0,1", "a,b,c,d", "", "0,0,1,2", "-0.1,0,1,1", "0,0,nan,1"])
def test_what_is_no_rectangle_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        rectangle(text)


@pytest.mark.parametrize("sides", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5)])
def test_a_rectangle_without_an_area_is_refused(sides: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected left below right"):
        Rectangle(*sides)


def test_a_mask_picture_is_read_where_it_is_white() -> None:
    drawn = np.zeros((10, 20, 3), np.uint8)
    drawn[5:] = 255
    drawn[0, 0] = 127
    zone = mask_zone(encoded(drawn, "PNG"))
    assert (zone.mask == (drawn[..., 0] > 127)).all()
    with pytest.raises(ValueError, match="white somewhere"):
        mask_zone(encoded(np.zeros((4, 4, 3), np.uint8), "PNG"))
    with pytest.raises(PhotoDecodeError):
        mask_zone(b"no picture")


def test_zones_are_told_apart_by_what_they_cover() -> None:
    names = [
        zones.named()
        for zones in (
            Zones(ignore=(Rectangle(0, 0, 1, 0.5),)),
            Zones(hide=(Rectangle(0, 0, 1, 0.5),)),
            Zones(ignore=(Rectangle(0, 0, 1, 0.51),)),
            Zones(ignore=(mask(0, 0, 5, 5),)),
            Zones(ignore=(mask(0, 0, 5, 6),)),
        )
    ]
    assert len(set(names)) == 5
    assert NO_ZONES.named() == ""
    assert Zones(ignore=(mask(0, 0, 5, 5),)).named() == names[3]


def test_the_mask_of_a_photo_has_a_number_for_each_plate_with_its_margin() -> None:
    detector = FixedDetector(boxes(PLATE, [70.0, 60.0, 110.0, 80.0]), (0.9, 0.8))
    blurred = blur_photo(PHOTO, detector, BlurOptions(mask=True, margin=0.0))
    assert blurred.mask is not None
    assert (blurred.mask[60:80, 40:80] == 1).all()  # the surer one is on top
    assert (blurred.mask[60:80, 80:110] == 2).all()
    assert (blurred.mask > 0).sum() == 70 * 20
    wide = blur_photo(PHOTO, detector, BlurOptions(mask=True))
    assert wide.mask is not None
    assert (wide.mask > 0).sum() > 70 * 20
    assert blur_photo(PHOTO, detector).mask is None


@pytest.mark.parametrize(
    ("sides", "inward", "outward"),
    [
        ((0.3, 0.2, 0.7, 0.8), (3, 4, 7, 16), (3, 4, 7, 16)),
        ((0.31, 0.21, 0.69, 0.79), (4, 5, 6, 15), (3, 4, 7, 16)),
        ((0.0, 0.0, 1.0, 1.0), (0, 0, 10, 20), (0, 0, 10, 20)),
        ((0.7, 0.1, 0.9, 0.3), (7, 2, 9, 6), (7, 2, 9, 6)),  # 0.7 of 10 is a little less than 7
    ],
)
def test_edges_are_rounded_to_the_side_of_hiding(
    sides: tuple[float, ...], inward: tuple[int, ...], outward: tuple[int, ...]
) -> None:
    zone = Rectangle(*sides)
    assert zone.bounds((20, 10), outward=False) == inward
    assert zone.bounds((20, 10), outward=True) == outward
    left, top, right, bottom = outward
    region = zone.region((20, 10))
    assert region.bounds == outward
    assert region.mask.all()
    covers = zone.covers((0, 0, 10, 20), (20, 10))
    left, top, right, bottom = inward
    assert covers[top:bottom, left:right].all()
    assert np.count_nonzero(covers) == (bottom - top) * (right - left)


@pytest.mark.parametrize(
    ("image_hw", "rows", "columns"),
    [
        ((4, 6), [0, 0, 1, 1], [0, 0, 1, 1, 2, 2]),
        ((2, 3), [0, 1], [0, 1, 2]),
        ((3, 2), [0, 1, 1], [0, 2]),
        ((1, 1), [1], [1]),
    ],
    ids=["enlarged", "the same", "uneven", "one pixel"],
)
def test_a_mask_is_read_at_the_middle_of_each_pixel(
    image_hw: tuple[int, int], rows: list[int], columns: list[int]
) -> None:
    mask = np.array([[True, False, True], [False, True, True]])
    zone = MaskZone(mask)
    expected = mask[np.array(rows)[:, None], columns]
    assert np.array_equal(zone.region(image_hw).mask, expected)
    height, width = image_hw
    part = zone.covers((width - 1, height - 1, width, height), image_hw)
    assert part.tolist() == [[bool(expected[-1, -1])]]
