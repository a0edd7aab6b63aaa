"""Clips: hidden in every frame or not written at all; times, sound and rotation stay."""

from __future__ import annotations

import gc
import io
import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from plateblur.errors import DetectionError, EncodeError, VideoError
from plateblur.types import BlurOptions, Detections, Image
from plateblur.video import ClipLimits, blur_clip
from plateblur.video.looking import WORKERS
from plateblur.video.pipeline import WRITING_SHARE
from tests.clips import (
    IMAGE_HW,
    RATE,
    BlinkingDetector,
    drawn_clip,
    driving,
    frames_of,
    plate_at,
    seen_in_tiles,
)

pytestmark = pytest.mark.slow


def blurred(data: bytes, detector: Any = None, **options: Any) -> bytes:
    out = io.BytesIO()
    blur_clip(io.BytesIO(data), out, detector or BlinkingDetector(), **options)
    return out.getvalue()


def readable(image: Image, frame: int) -> bool:
    """Return whether the plate's bright letters can still be told from its dark ground."""
    x1, y1, x2, y2 = plate_at(frame)
    low, high = np.percentile(image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean(axis=2), [5, 95])
    return bool(high - low > 60)


def read_by_players(data: bytes, *, frames: int = 20) -> list[bool]:
    shown = frames_of(data)
    assert len(shown) == frames
    return [readable(image, number) for number, (_, image) in enumerate(shown)]


def test_the_plate_is_hidden_in_every_frame() -> None:
    clip = drawn_clip(driving())
    assert all(read_by_players(clip))

    assert not any(read_by_players(blurred(clip)))


@pytest.mark.parametrize(
    "misses",
    [range(4), range(16, 20), range(6, 14), [0, 1, 5, 6, 7, 12, 18, 19]],
    ids=["at the start", "at the end", "in the middle", "now and then"],
)
def test_a_plate_stays_hidden_where_the_detector_missed_it(misses: Any) -> None:
    detector = BlinkingDetector(misses=misses)

    assert not any(read_by_players(blurred(drawn_clip(driving()), detector)))


def test_a_clip_without_plates_stays_as_it_is() -> None:
    images = driving(5, plate=False)

    shown = frames_of(blurred(drawn_clip(images)))

    for image, (_, other) in zip(images, shown, strict=True):
        assert np.abs(image.astype(int) - other).mean() < 6


def test_each_frame_is_shown_when_it_was() -> None:
    pts = [0, 1, 2, 5, 6, 9, 14, 15]  # a phone's rate is not even
    clip = drawn_clip(driving(8), pts=pts)

    assert [time_s for time_s, _ in frames_of(blurred(clip))] == pytest.approx(
        [tenths / RATE for tenths in pts], abs=1e-3
    )


def test_a_turned_clip_comes_out_upright_and_was_looked_at_upright() -> None:
    clip = drawn_clip(driving(), turned=True)
    detector = BlinkingDetector()
    assert all(read_by_players(clip))

    result = blurred(clip, detector)

    with av.open(io.BytesIO(result), "r") as source:
        assert next(source.decode(video=0)).rotation == 0
    assert {shape[:2] for shape in detector.__dict__["calls"]} == {IMAGE_HW}
    assert not any(read_by_players(result))


@pytest.mark.parametrize(
    ("kind", "codec", "sound", "copied"),
    [
        ("mp4", "libx264", "aac", True),
        ("webm", "libvpx", "libopus", True),
        ("matroska", "mpeg4", "pcm_s16le", False),
        ("mov", "libx264", "", True),
    ],
    ids=["mp4 of a phone", "webm of a browser", "sound that MP4 can't hold", "no sound"],
)
def test_the_sound_stays(kind: str, codec: str, sound: str, copied: bool) -> None:
    clip = drawn_clip(driving(), kind=kind, codec=codec, sound=sound)

    result = blurred(clip)

    assert len(frames_of(result)) == 20
    with av.open(io.BytesIO(clip), "r") as before, av.open(io.BytesIO(result), "r") as after:
        assert len(after.streams.audio) == bool(sound)
        if sound and copied:
            packets = [
                [bytes(packet) for packet in source.demux(audio=0) if packet.size]
                for source in (before, after)
            ]
            assert packets[0] == packets[1]
        elif sound:
            heard = [frame.to_ndarray() for frame in after.decode(audio=0)]
            assert after.streams.audio[0].codec_context.name == "aac"
            assert np.abs(np.concatenate(heard, axis=1)).max() > 0.5
            assert sum(part.shape[1] for part in heard) == pytest.approx(96_000, abs=3000)


def test_no_metadata_leaves() -> None:
    clip = drawn_clip(driving(3), sound="aac")

    with av.open(io.BytesIO(blurred(clip)), "r") as source:
        assert "title" not in source.metadata
    assert b"who filmed" in clip
    assert b"who filmed" not in blurred(clip)


def test_odd_sides_are_made_even() -> None:
    images = [image[:119, :159] for image in driving(3)]
    clip = _odd_clip(images)

    assert frames_of(blurred(clip))[0][1].shape == (120, 160, 3)


def _odd_clip(images: list[Image]) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as target:
        picture: Any = target.add_stream("libvpx", rate=RATE)
        picture.height, picture.width = images[0].shape[:2]
        picture.pix_fmt = "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            target.mux(picture.encode(frame))
        target.mux(picture.encode(None))
    return out.getvalue()


CLIP = drawn_clip(driving(20))
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/hostname\n"


def damaged() -> bytes:
    data = bytearray(CLIP)
    start = data.index(b"mdat") + 4 + len(data) // 4
    data[start : start + 400] = bytes(range(200)) * 2
    return bytes(data)


def sound_alone() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        tone: Any = target.add_stream("aac", rate=48_000, layout="mono")
        heard = av.AudioFrame.from_ndarray(
            np.zeros((1, 48_000), np.float32), format="fltp", layout="mono"
        )
        heard.sample_rate = 48_000
        target.mux(tone.encode(heard))
        target.mux(tone.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"no clip", CLIP[:200], CLIP[: len(CLIP) // 2], PLAYLIST, CONCAT, sound_alone()],
    ids=["empty", "text", "head alone", "half", "playlist", "list of files", "sound alone"],
)
def test_what_is_no_whole_clip_is_refused(data: bytes) -> None:
    with pytest.raises(VideoError, match="expected"):
        blurred(data)


def test_a_damaged_frame_means_no_clip() -> None:
    with pytest.raises(VideoError, match="damaged"):
        blurred(damaged())


@pytest.mark.parametrize("call", [0, 7, 19], ids=["first", "one amid", "last"])
def test_a_frame_that_the_detector_fails_on_means_no_clip(call: int) -> None:
    out = io.BytesIO()

    with pytest.raises(DetectionError):
        blur_clip(io.BytesIO(CLIP), out, BlinkingDetector(fails=[call]))

    assert out.getvalue() == b""


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (ClipLimits(length_s=1.5), "up to 2 s"),
        (ClipLimits(frames=19), "up to 19 frames"),
        (ClipLimits(frame_pixels=1000), "megapixels"),
    ],
    ids=["too long", "too many frames", "frames too large"],
)
def test_a_clip_beyond_the_limits_is_refused(limits: ClipLimits, says: str) -> None:
    with pytest.raises(VideoError, match=says):
        blurred(CLIP, limits=limits)


def test_a_clip_of_untold_length_is_held_to_the_limits_too() -> None:
    clip = _live(driving())

    assert not any(read_by_players(blurred(clip)))
    with pytest.raises(VideoError, match="up to 1 s"):
        blurred(clip, limits=ClipLimits(length_s=1))


def _live(images: list[Image]) -> bytes:
    """Return a clip as a browser's recorder writes it: without its length."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm", container_options={"live": "1"}) as target:
        picture: Any = target.add_stream("libvpx", rate=RATE, options={"crf": "6", "b": "2000000"})
        picture.height, picture.width = images[0].shape[:2]
        picture.pix_fmt = "yuv420p"
        for image in images:
            target.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(picture.encode(None))
    return out.getvalue()


def test_progress_rises_to_the_whole_and_may_end_the_work() -> None:
    told: list[float] = []

    blurred(CLIP, progress=told.append)

    assert told[-1] == 1
    assert all(later >= earlier for earlier, later in itertools.pairwise(told))

    def stop(share: float) -> None:
        if share > 0.8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blurred(CLIP, progress=stop)


@pytest.mark.parametrize(
    "options",
    [{"min_confidence": 0.0}, {"min_confidence": float("nan")}, {"margin": -1.0}, {"method": "x"}],
    ids=["nothing", "nan", "negative margin", "unknown method"],
)
def test_options_out_of_range_are_a_callers_bug(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        blurred(CLIP, options=BlurOptions(**options))


def test_a_result_that_cannot_be_written_is_told() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError("no space left on device")

    with pytest.raises(EncodeError):
        blur_clip(io.BytesIO(CLIP), Full(), BlinkingDetector())


class Interrupted(BaseException):
    """Ends the work as a kill would: nothing is tidied up."""


class CountingDetector(BlinkingDetector):
    """Is interrupted in one of its calls, counted from 0."""

    def __init__(self, *, interrupted_in: int = -1) -> None:
        super().__init__()
        object.__setattr__(self, "interrupted_in", interrupted_in)

    def detect(self, image: Image, *, min_confidence: float, **_: Any) -> Detections:
        if len(self.__dict__["calls"]) == self.__dict__["interrupted_in"]:
            raise Interrupted
        return super().detect(image, min_confidence=min_confidence)

    @property
    def looks(self) -> int:
        return sum(shape[:2] == IMAGE_HW for shape in self.__dict__["calls"])


def worked_on(data: bytes, detector: Any, work: Path, **options: Any) -> bytes:
    out = io.BytesIO()
    blur_clip(io.BytesIO(data), out, detector, work=work, resume=True, **options)
    return out.getvalue()


LONG = drawn_clip(driving(36), pts=[n + n // 7 for n in range(36)], sound="aac")


def test_work_that_was_interrupted_while_looking_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = blurred(LONG)
    with pytest.raises(Interrupted):
        worked_on(LONG, CountingDetector(interrupted_in=20), tmp_path / "work")
    detector = CountingDetector()

    result = worked_on(LONG, detector, tmp_path / "work")

    assert alike(result, whole)
    assert detector.looks <= 36 - 20 + WORKERS + 1


def test_work_that_was_interrupted_while_writing_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateblur.video.writing.SEGMENT_FRAMES", 10)
    monkeypatch.setattr("plateblur.video.pipeline.SEGMENT_FRAMES", 10)
    whole = blurred(LONG)

    def stop(share: float) -> None:
        if share > 1 - WRITING_SHARE * 0.3:
            raise Interrupted

    with pytest.raises(Interrupted):
        worked_on(LONG, CountingDetector(), tmp_path / "work", progress=stop)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work").glob("*.mp4")}
    detector = CountingDetector()

    result = worked_on(LONG, detector, tmp_path / "work")

    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work").glob("*.mp4")}
    assert len(before) == 2
    assert len(after) == 4
    assert before.items() <= after.items()
    assert detector.looks == 0
    assert alike(result, whole)


@pytest.mark.parametrize("change", ["clip", "option"])
def test_other_work_is_not_resumed(tmp_path: Path, change: str) -> None:
    with pytest.raises(Interrupted):
        worked_on(LONG, CountingDetector(interrupted_in=20), tmp_path / "work")
    detector = CountingDetector()
    data = drawn_clip(driving(30)) if change == "clip" else LONG
    options = BlurOptions(margin=0.5) if change == "option" else BlurOptions()

    worked_on(data, detector, tmp_path / "work", options=options)

    assert detector.looks == (30 if change == "clip" else 36)


def test_a_line_of_the_journal_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        worked_on(LONG, CountingDetector(interrupted_in=20), tmp_path / "work")
    journal = tmp_path / "work" / "looked-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])

    assert alike(worked_on(LONG, CountingDetector(), tmp_path / "work"), blurred(LONG))


def alike(first: bytes, second: bytes) -> bool:
    """Return whether two clips show the same; x264 is not exact to the bit on a busy machine."""
    pairs = zip(frames_of(first), frames_of(second), strict=True)
    return all(a == b and np.abs(x.astype(int) - y).mean() < 1 for (a, x), (b, y) in pairs)


class SharpDetector(BlinkingDetector):
    """Misses the plate in whole frames, and finds it in cut-outs."""

    def detect(self, image: Image, *, min_confidence: float, **_: Any) -> Detections:
        whole = image.shape[:2] == IMAGE_HW
        if whole:
            return super().detect(image, min_confidence=min_confidence)
        return seen_in_tiles(image, min_confidence=min_confidence)


def test_a_plate_that_turns_while_it_is_missed_is_found_by_a_closer_look() -> None:
    """It brakes as soon as it is no longer found: where it should be is ahead of where it is."""
    path = [10 + 4 * min(frame, 8) for frame in range(24)]
    ground = driving(1, plate=False)[0]
    images = []
    for left in path:
        image = ground.copy()
        image[60:74, left : left + 40] = 10
        images.append(image)
    misses = range(8, 24)

    done = blur_clip(io.BytesIO(drawn_clip(images)), io.BytesIO(), SharpDetector(misses=misses))

    (plate,) = done.followed
    assert plate.track.frames == list(range(24))
    for left, box in zip(path, plate.track.xyxy, strict=True):
        assert abs(box[0] - left) < 6


def test_frames_are_let_go_while_the_work_goes_on() -> None:
    """Without the garbage collector's help, which counts objects and not their megabytes."""
    gc.collect()
    gc.disable()
    alive = []

    def count(share: float) -> None:
        alive.append(sum(type(each) is av.VideoFrame for each in gc.get_objects()))

    try:
        blurred(LONG, progress=count)
    finally:
        gc.enable()

    assert max(alive) <= 16  # those in hand
