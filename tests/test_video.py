"""Clips: hidden in every frame or not written at all; times, sound and rotation stay."""

from __future__ import annotations

import io
import itertools
from typing import Any

import av
import numpy as np
import pytest

from plateblur.errors import DetectionError, EncodeError, VideoError
from plateblur.types import BlurOptions, Image
from plateblur.video import ClipLimits, blur_clip
from tests.clips import (
    IMAGE_HW,
    RATE,
    BlinkingDetector,
    drawn_clip,
    driving,
    frames_of,
    plate_at,
)


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
