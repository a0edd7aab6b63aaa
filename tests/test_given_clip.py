"""A clip whose plates are given: they are hidden while they are there, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from plateblur.errors import VideoError
from plateblur.key_frames import Keys, box_at
from plateblur.types import BlurOptions, Image
from plateblur.video import Reel, blur_clip, glimpse, hide_in_clip
from tests.clips import RATE, BlinkingDetector, drawn_clip, driving, frames_of, plate_at, recorded

SOLID = BlurOptions(method="solid", margin=0.0)
FRAME_US = 1_000_000 // RATE
STAYING: Keys = ((3 * FRAME_US, 100.0, 20.0, 140.0, 40.0), (6 * FRAME_US, 100.0, 20.0, 140.0, 40.0))


def hidden(clip: bytes, *plates: list[Keys]) -> list[Image]:
    out = io.BytesIO()
    hide_in_clip(io.BytesIO(clip), out, plates, SOLID)
    return [image for _, image in frames_of(out.getvalue())]


def is_flat(image: Image, box: tuple[float, ...]) -> bool:
    left, top, right, bottom = (int(side) for side in box)
    return float(image[top + 3 : bottom - 3, left + 3 : right - 3].std()) < 3


def test_a_plate_is_hidden_from_its_first_frame_to_its_last() -> None:
    shown = [is_flat(image, STAYING[0][1:]) for image in hidden(drawn_clip(driving(10)), [STAYING])]
    assert [frame for frame, flat in enumerate(shown) if flat] == [3, 4, 5, 6]


def test_nothing_is_hidden_where_nothing_is_given() -> None:
    clip = drawn_clip(driving(6))
    before = [image for _, image in frames_of(clip)]
    given: list[list[list[Keys]]] = [[], [[]]]
    for plates in given:
        after = hidden(clip, *plates)
        assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(after, before, strict=True)) < 3


def test_the_second_video_track_has_plates_of_its_own() -> None:
    clip = recorded([driving(8), driving(8, plate=False)], kind="mp4")
    out = io.BytesIO()
    done = hide_in_clip(io.BytesIO(clip), out, [[], [STAYING]], SOLID)
    assert done.plates == 1
    first = [image for _, image in frames_of(out.getvalue())]
    assert not any(is_flat(image, STAYING[0][1:]) for image in first)


def test_plates_for_a_track_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 video tracks"):
        hidden(drawn_clip(driving(3)), [], [STAYING])


def test_a_damaged_clip_is_refused_and_resumed_work_is_of_the_same_plates(tmp_path: Path) -> None:
    clip = drawn_clip(driving(8))
    with pytest.raises(VideoError):
        hidden(clip[: len(clip) // 2], [STAYING])
    outs = []
    given: list[list[Keys]] = [[STAYING], []]
    for plates in given:
        out = io.BytesIO()
        hide_in_clip(io.BytesIO(clip), out, [plates], SOLID, work=tmp_path, resume=True)
        outs.append([image for _, image in frames_of(out.getvalue())])
    assert is_flat(outs[0][4], STAYING[0][1:])
    assert not is_flat(outs[1][4], STAYING[0][1:])


@pytest.mark.slow
def test_key_frames_of_a_run_cover_what_it_hid() -> None:
    """So a clip that is written again with a run's own plates hides no less than the run did."""
    clip = drawn_clip(driving(20))
    done = blur_clip(io.BytesIO(clip), io.BytesIO(), BlinkingDetector(misses=(7, 8)), SOLID)
    (plate,) = done.followed
    for frame in range(20):
        box, there = plate_at(frame), box_at(plate.keys, frame * FRAME_US)
        assert there is not None
        assert (there[:2] <= np.array(box[:2]) + 1).all()
        assert (there[2:] >= np.array(box[2:]) - 1).all()
    assert done.zero_us == 0


# --- Looking at single frames ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4")]
)
def test_any_frame_is_shown_in_any_order(tmp_path: Path, kind: str, codec: str) -> None:
    place = tmp_path / "clip"
    place.write_bytes(drawn_clip(driving(30), kind=kind, codec=codec))
    frames = frames_of(place.read_bytes())
    reel = Reel(place)
    assert len(reel.times_us) == 30
    for frame in (0, 29, 3, 4, 2, 20, 19, 28, 1):
        image = reel.image_at(int(reel.times_us[frame]))
        assert np.abs(image.astype(int) - frames[frame][1]).mean() < 3, frame
    between = reel.image_at(int(reel.times_us[7]) + FRAME_US // 2)
    assert np.abs(between.astype(int) - frames[7][1]).mean() < 3
    assert len(reel._held) <= reel._most_held
    reel.close()
    assert glimpse(place).shape == frames[0][1].shape


def test_few_frames_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plateblur.video.reel.HELD_BYTES", 0)
    place = tmp_path / "clip.mp4"
    place.write_bytes(drawn_clip(driving(30)))
    reel = Reel(place)
    for frame in (25, 24, 23, 3):
        reel.image_at(int(reel.times_us[frame]))
        assert len(reel._held) <= 2
    reel.close()


def test_a_clip_that_is_none_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "clip.mp4"
    place.write_bytes(b"no clip")
    with pytest.raises(VideoError):
        Reel(place)
    with pytest.raises(VideoError):
        glimpse(place)


def test_a_frame_that_cannot_be_decoded_is_said_and_the_others_are_shown(tmp_path: Path) -> None:
    data = bytearray(drawn_clip(driving(30), kind="avi", codec="mpeg4"))
    at = data.index(b"movi") + (len(data) - data.index(b"movi")) // 2
    data[at : at + 400] = bytes(400)
    place = tmp_path / "clip.avi"
    place.write_bytes(bytes(data))
    reel = Reel(place)
    assert reel.image_at(int(reel.times_us[0])).shape == (120, 160, 3)
    failed = 0
    for time_us in reel.times_us.tolist():
        try:
            reel.image_at(time_us)
        except VideoError:
            failed += 1
    assert 0 < failed < len(reel.times_us)
    assert reel.image_at(int(reel.times_us[0])).shape == (120, 160, 3)
    reel.close()
