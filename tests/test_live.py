"""Live pictures: what comes out of a camera, a stream or a file has its plates hidden, or nothing.

Both ends are on this machine: FFmpeg, an HTTP server, a small RTSP server.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plateblur import cli, cli_live
from plateblur.errors import DetectionError, EncodeError, VideoError
from plateblur.tracks import STILL
from plateblur.types import BlurOptions, Detections, Image
from plateblur.video import Counts, LiveOptions, blur_live, feed, sink_of, source_of
from plateblur.video.sinks import Sender
from plateblur.video.sources import Live, shown_address
from plateblur.video.window import LiveFrame
from tests.clips import (
    IMAGE_HW,
    ORIENTATIONS,
    RATE,
    BlinkingDetector,
    drawn_clip,
    driving,
    flashing,
    recorded,
    seen_in_tiles,
    shown_and_heard_at,
    with_matrix,
)
from tests.fakes import BrokenDetector, DarkDetector
from tests.ports import free_port
from tests.streams import WAIT_S, ffmpeg, http, listens, rtsp

SOLID = BlurOptions(method="solid")
# On a machine that does other work, frames wait long for their turn.
PATIENT = LiveOptions(delay_s=2.0, retry_s=WAIT_S)
DARKEST = 35  # the plate is 10, and what hides it 64


class Slow(DarkDetector):
    """Needs longer for a frame than there is between two."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        time.sleep(0.35)
        return super().detect(image, min_confidence=min_confidence)


def images_in(path: Path) -> list[Image]:
    with av.open(str(path), "r") as clip:
        return [
            frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for frame in clip.decode(video=0)
        ]


def readable(images: list[Image]) -> int:
    """Return in how many images something of the plate is left."""
    return sum(bool((image.max(axis=2) < DARKEST).any()) for image in images)


def blank(images: list[Image]) -> int:
    return sum(bool(np.ptp(image) < 10) for image in images)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_bytes(drawn_clip(driving(30), sound="aac"))
    return path


@contextmanager
def running(source: str, sink: Path | str, **more: Any) -> Iterator[list[Any]]:
    """Blur in a thread until the block ends; yield what was said, and at the end the counts."""
    said: list[Any] = []
    stop = threading.Event()

    def work() -> None:
        given = {"detector": DarkDetector(), "options": SOLID, "how": PATIENT, **more}
        try:
            said.append(
                blur_live(
                    source_of(source), sink_of(str(sink)), stop=stop, say=said.append, **given
                )
            )
        except (VideoError, EncodeError, DetectionError) as error:
            said.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def until(is_so: Callable[[], object]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.1)


def has(path: Path, size_bytes: int) -> bool:
    return size_of(path) > size_bytes


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_the_plate_is_drawn_dark_enough_to_be_seen(clip: Path) -> None:
    images = images_in(clip)

    assert readable(images) == len(images) == 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.ts", "out.m3u8"])
def test_a_file_is_played_at_its_own_speed_with_the_plate_hidden(
    clip: Path, tmp_path: Path, name: str
) -> None:
    begun_s = time.monotonic()

    counts = blur_live(
        source_of(str(clip)), sink_of(str(tmp_path / name)), DarkDetector(), SOLID, PATIENT
    )

    images = images_in(tmp_path / name)
    assert counts == Counts(read=30, shown=30, plates=1)
    assert len(images) == 30
    assert readable(images) == blank(images) == 0
    assert time.monotonic() - begun_s > 30 / RATE


@pytest.mark.slow
def test_picture_and_sound_stay_in_step(tmp_path: Path) -> None:
    source, sink = tmp_path / "in.mkv", tmp_path / "out.mkv"
    source.write_bytes(recorded([flashing(40, at=20)], kind="matroska", sounds=["aac"], beep_s=2.0))

    blur_live(source_of(str(source)), sink_of(str(sink)), DarkDetector(), SOLID, PATIENT)

    flash_s, beep_s = shown_and_heard_at(sink.read_bytes())
    assert flash_s - beep_s == pytest.approx(0, abs=0.1)


@pytest.mark.slow
def test_sound_that_goes_on_after_the_last_picture_is_sent_to_its_end(tmp_path: Path) -> None:
    clip = recorded([flashing()], kind="mp4", sounds=["aac"], sound_late_s=1.5)
    (tmp_path / "in.mp4").write_bytes(clip)

    blur_live(
        source_of(str(tmp_path / "in.mp4")),
        sink_of(str(tmp_path / "out.mkv")),
        DarkDetector(),
        SOLID,
        PATIENT,
    )

    with av.open(str(tmp_path / "out.mkv"), "r") as source:
        heard_s = [float(frame.time or 0) for frame in source.decode(audio=0)]
    assert heard_s[-1] == pytest.approx(3.5, abs=0.2)


@pytest.mark.slow
def test_a_source_in_an_unknown_codec_is_refused_and_what_pictures_lose_is_said(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    for kind, codec, pixels in (("mov", "qtrle", "rgb24"), ("mp4", "libx264", "yuv444p")):
        path = tmp_path / f"{codec}.{kind}"
        options = {"threads": "1"}
        path.write_bytes(
            recorded([driving(3)], kind=kind, codec=codec, pixels=pixels, options=options)
        )
        sink = sink_of(str(tmp_path / f"{codec}.mkv"))
        try:
            blur_live(source_of(str(path)), sink, DarkDetector(), SOLID, PATIENT, say=said.append)
        except VideoError as error:
            said.append(str(error))

    assert said == [
        "expected H.264, H.265, AV1, VP8, VP9, MPEG or MJPEG, got qtrle",
        "colours were reduced to half the resolution (4:2:0)",
    ]


@pytest.mark.slow
def test_sound_is_dropped_where_it_is_not_wanted(clip: Path, tmp_path: Path) -> None:
    how = LiveOptions(delay_s=1.0, sound="drop")

    blur_live(source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), DarkDetector(), SOLID, how)

    with av.open(str(tmp_path / "out.mkv"), "r") as written:
        assert [stream.type for stream in written.streams] == ["video"]


@pytest.mark.slow
@pytest.mark.parametrize("late", ["blank", "drop"])
def test_no_frame_is_shown_as_it_came_when_the_detector_is_too_slow(
    clip: Path, tmp_path: Path, late: Any
) -> None:
    how = LiveOptions(delay_s=0.5, late=late)

    counts = blur_live(source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), Slow(), SOLID, how)

    images = images_in(tmp_path / "out.mkv")
    assert counts.read == 30
    assert counts.late >= 5
    assert counts.shown >= 1
    assert counts.shown + counts.late + counts.unsent == 30
    assert len(images) == (counts.shown if late == "drop" else 30 - counts.unsent)
    assert readable(images) == 0
    assert blank(images) == (0 if late == "drop" else counts.late)


class NearDetector(DarkDetector):
    """Finds the plate in whole frames only as far as it is on the left, and in all cut-outs."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        if image.shape[:2] != IMAGE_HW:
            return seen_in_tiles(image, min_confidence=min_confidence)
        found = super().detect(image, min_confidence=min_confidence, **how)
        return found.take(np.flatnonzero(found.xyxy[:, 0] < 41))


@pytest.mark.slow
def test_a_plate_that_brakes_while_it_is_missed_is_found_by_a_closer_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All frames wait; they leave one after the other, and are searched as far as they can be."""
    lefts = [10 + 4 * min(frame, 8) for frame in range(24)]
    searching = feed.Feed(source_of("in.mp4"), SOLID, PATIENT, threading.Event(), lambda _: None)
    for number, (image, left) in enumerate(zip(driving(24, plate=False), lefts, strict=True)):
        image[60:74, left : left + 40] = 10
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        if number == 0:
            searching._begin(frame, Live())
        searching.window.add(LiveFrame(frame, number / RATE, STILL))
    window = searching.window
    monkeypatch.setattr(window._changed, "wait", window.close)
    monkeypatch.setattr(window._changed, "notify_all", lambda: None)

    due = []
    for number in range(24):
        window._is_closed = False
        searching.search(NearDetector())
        due += window.due(number / RATE)

    for each, left in zip(due, lefts, strict=True):
        assert each.boxes is not None
        assert any(box[0] <= left + 1 and box[2] >= left + 39 for box in each.boxes)


@pytest.mark.slow
def test_a_plate_is_hidden_where_it_was_missed_for_a_moment(clip: Path, tmp_path: Path) -> None:
    detector = BlinkingDetector(misses=range(4, 8))

    counts = blur_live(
        source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), detector, SOLID, PATIENT
    )

    assert counts.shown == 30
    assert readable(images_in(tmp_path / "out.mkv")) == 0


@pytest.mark.slow
def test_frames_that_can_not_be_decoded_are_blanked_and_counted(tmp_path: Path) -> None:
    whole = bytearray(drawn_clip(driving(30), kind="mpegts", codec="mpeg2video"))
    for at in range(len(whole) // 3, len(whole) // 3 + 4000, 188):
        whole[at + 8 : at + 180] = b"\xff" * 172
    source, sink = tmp_path / "in.ts", tmp_path / "out.mkv"
    source.write_bytes(whole)

    counts = blur_live(source_of(str(source)), sink_of(str(sink)), DarkDetector(), SOLID, PATIENT)

    assert counts.damaged >= 1
    assert readable(images_in(sink)) == 0


@pytest.mark.slow
def test_a_failed_search_ends_the_work_and_nothing_is_shown(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DetectionError):
        blur_live(source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), BrokenDetector(), SOLID)

    images = images_in(tmp_path / "out.mkv") if size_of(tmp_path / "out.mkv") > 1000 else []
    assert blank(images) == len(images)


class FirstThenBug(DarkDetector):
    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        raise ZeroDivisionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_thread_ends_the_work(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DetectionError, match="can't be searched"):
        blur_live(source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), FirstThenBug(), SOLID)


@pytest.mark.slow
def test_fewer_frames_are_used_where_a_rate_is_set(clip: Path, tmp_path: Path) -> None:
    how = LiveOptions(delay_s=1.0, rate=RATE / 2)

    counts = blur_live(
        source_of(str(clip)), sink_of(str(tmp_path / "out.mkv")), DarkDetector(), SOLID, how
    )

    assert 10 <= counts.read <= 16
    assert readable(images_in(tmp_path / "out.mkv")) == 0


@pytest.mark.slow
def test_rtmp_is_watched_lost_and_found_again(clip: Path, tmp_path: Path) -> None:
    port, sink = free_port(), tmp_path / "out.mkv"
    address = f"rtmp://127.0.0.1:{port}/live/secret-key"
    # Key frames often, because who comes again waits for the next one.
    sender = (
        *("-re", "-stream_loop", "-1", "-i", clip, "-c:v", "libx264", "-g", "5", "-c:a", "aac"),
        *("-f", "flv", "-listen", "1", address),
    )
    with running(address, sink) as said:
        with ffmpeg(*sender) as first:
            listens(port)
            until(lambda: size_of(sink) > 20_000)
            first.kill()
            until(lambda: any("Trying again" in str(line) for line in said))
        with ffmpeg(*sender) as second:
            before = size_of(sink)
            until(lambda: size_of(sink) > before + 20_000)
            second.kill()

    counts = said[-1]
    assert isinstance(counts, Counts)
    assert counts.source_lost >= 1
    assert counts.shown > 20
    images = images_in(sink)
    assert readable(images) == 0
    assert len(images) >= counts.shown
    assert not any("secret" in str(line) for line in said)


@pytest.mark.slow
def test_an_rtmp_server_gets_the_picture_and_is_tried_again(clip: Path, tmp_path: Path) -> None:
    port = free_port()
    address = f"rtmp://127.0.0.1:{port}/live/secret-key"
    looped = tmp_path / "looped.mkv"
    with ffmpeg("-stream_loop", "9", "-i", clip, "-c", "copy", looped) as made:
        made.wait()
    outs = [tmp_path / "first.mkv", tmp_path / "second.mkv"]

    with running(str(looped), address) as said:
        for number, out in enumerate(outs):
            with ffmpeg("-listen", "1", "-i", address, "-c", "copy", "-f", "matroska", out) as got:
                until(partial(has, out, 5_000))
                if number == 0:
                    got.kill()
            if number == 0:
                until(lambda: any("No sink" in str(line) for line in said))

    assert any("No sink" in str(line) for line in said)
    assert not any("secret" in str(line) for line in said)
    for out in outs:
        images = images_in(out)
        assert len(images) > 3
        assert readable(images) == 0


@pytest.mark.slow
def test_an_rtsp_server_gets_the_picture(clip: Path, tmp_path: Path) -> None:
    address, out = f"rtsp://127.0.0.1:{free_port()}/live", tmp_path / "out.mkv"
    with ffmpeg("-rtsp_flags", "listen", "-i", address, "-c", "copy", out) as server:
        with running(str(clip), address) as said:
            until(lambda: said and isinstance(said[-1], Counts | EncodeError))
        server.wait(WAIT_S)

    assert said[-1].shown >= 25
    images = images_in(out)
    assert len(images) >= 20
    assert readable(images) == 0


@pytest.mark.slow
@pytest.mark.parametrize("password", ["", "hunter2"])
def test_a_camera_is_watched_over_rtsp(tmp_path: Path, password: str) -> None:
    source, sink = tmp_path / "camera.mp4", tmp_path / "out.mkv"
    source.write_bytes(recorded([driving(30)], kind="mp4", options={"g": "5", "bf": "0"}))
    with rtsp(source, password=password) as address, running(address, sink) as said:
        until(lambda: size_of(sink) > 15_000)

    counts = said[-1]
    assert isinstance(counts, Counts)
    assert counts.shown > 5
    assert readable(images_in(sink)) == 0
    assert not any("hunter2" in str(line) for line in said)


@pytest.mark.slow
def test_a_stream_over_http_is_tried_again_when_it_breaks_off(tmp_path: Path) -> None:
    whole = drawn_clip(driving(30), kind="mpegts")
    sink = tmp_path / "out.mkv"
    with http(whole[: len(whole) // 2], whole) as address, running(address, sink) as said:
        until(lambda: any(isinstance(line, Counts) for line in said) or len(said) > 2)
        until(lambda: size_of(sink) > 10_000)

    counts = said[-1]
    assert isinstance(counts, Counts)
    assert counts.source_lost >= 1
    assert counts.shown >= 30
    images = images_in(sink)
    assert readable(images) == 0
    # While the source is away, the server is told so by blank frames.
    assert blank(images) >= 1


@pytest.mark.slow
def test_a_clip_on_a_web_server_ends_at_its_end(clip: Path, tmp_path: Path) -> None:
    whole = drawn_clip(driving(20), kind="matroska")
    with http(whole, kind="video/x-matroska", is_live=False) as address:
        counts = blur_live(
            source_of(address), sink_of(str(tmp_path / "out.mp4")), DarkDetector(), SOLID, PATIENT
        )

    assert (counts.read, counts.shown, counts.source_lost) == (20, 20, 0)
    assert readable(images_in(tmp_path / "out.mp4")) == 0


class Camera:
    """Like OpenCV's camera: frames without times, then none."""

    def __init__(self, number: int) -> None:
        self.images = iter(driving(20) if number == 0 else [])
        self.is_there = number == 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_there

    def get(self, _: int) -> float:
        return float(RATE)

    def read(self) -> tuple[bool, Image | None]:
        time.sleep(1 / RATE)
        image = next(self.images, None)
        return image is not None, None if image is None else image[:, :, ::-1].copy()

    def release(self) -> None:
        pass


@pytest.mark.slow
def test_a_camera_of_this_machine_is_blurred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    sink = tmp_path / "out.mp4"

    with running("camera:0", sink, how=LiveOptions(delay_s=2.0, retry_s=0.0)) as said:
        until(lambda: said and isinstance(said[-1], VideoError))

    assert "no more pictures" in str(said[-1])
    images = images_in(sink)
    assert len(images) == 20
    assert readable(images) == 0


@dataclass
class Given:
    """A source of frames that were decoded before; each connection gives the next of them."""

    connections: list[list[av.VideoFrame]]
    kind: str = "camera"
    shown: str = "a camera"
    is_paced: bool = False

    @contextmanager
    def connected(self) -> Iterator[Live]:
        live = Live()
        live.ends = len(self.connections) == 1
        frames = self.connections.pop(0)
        live.frames = lambda: iter(frames)  # type: ignore[method-assign]
        yield live


def decoded(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data), "r") as source:
        return list(source.decode(video=0))


def fed(*connections: list[av.VideoFrame]) -> feed.Feed:
    """Return a feed that has read all that the connections give."""
    read = feed.Feed(
        cast(Any, Given(list(connections))), SOLID, PATIENT, threading.Event(), lambda _: None
    )
    read.run()
    return read


@pytest.mark.parametrize("again", [False, True], ids=["amid", "after it was lost"])
@pytest.mark.parametrize(
    "change", ["turned", "colours"], ids=["turned otherwise", "another colour curve"]
)
def test_frames_that_are_shown_otherwise_than_the_first_are_never_sent(
    change: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be searched on their side, and their plates sent readable."""
    monkeypatch.setattr(feed, "BACK_OFF_S", (0.0, 0.0))
    clip = drawn_clip(driving(3))
    if change == "turned":
        others = decoded(with_matrix(clip, *ORIENTATIONS["turned left"]))
    else:
        others = decoded(clip)
        for frame in others:
            frame.color_trc = 16
    read = fed(decoded(clip), others) if again else fed([*decoded(clip), *others])
    assert isinstance(read.failure, feed.UnfitError)
    assert "rotated, stretched or coloured differently" in str(read.failure)
    assert read.window.waiting == 3


def test_frames_of_another_shape_keep_theirs() -> None:
    """A phone that is turned: squeezed into the first frame's shape, its plates are missed."""
    upright = [np.ascontiguousarray(np.rot90(image)) for image in driving(2)]
    read = fed([*decoded(drawn_clip(driving(2))), *decoded(drawn_clip(upright))])
    assert read.failure is None
    assert read.window.waiting == 4
    waiting = read.window.next_to_search()
    assert waiting is not None
    frame = waiting[0].frame
    assert frame is not None
    assert (frame.width, frame.height) == IMAGE_HW[::-1]
    image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    assert blank([image[:, :30], image[:, -30:]]) == 2
    rows, columns = np.nonzero(image.max(axis=2) < DARKEST)
    assert int(np.ptp(rows)) > 1.5 * int(
        np.ptp(columns)
    )  # the plate is on its side, and not squeezed
    assert int(np.ptp(rows)) == pytest.approx(40 * 120 / 160, abs=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("rtsp://viewer:hunter2@127.0.0.1:1/stream", "rtsp://127.0.0.1:1 can't be opened"),
        ("rtmp://127.0.0.1:1/live/hunter2", "rtmp://127.0.0.1:1 can't be opened"),
        ("http://127.0.0.1:1/video?token=hunter2", "http://127.0.0.1:1 can't be opened"),
    ],
    ids=["rtsp", "rtmp", "http"],
)
def test_a_source_that_is_not_there_is_given_up_and_its_secrets_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    monkeypatch.setattr(feed, "BACK_OFF_S", (0.05, 0.1))
    said: list[str] = []

    with pytest.raises(VideoError) as raised:
        blur_live(
            source_of(address), sink_of(str(tmp_path / "out.mkv")), DarkDetector(), SOLID,
            LiveOptions(retry_s=0.3), say=said.append,
        )  # fmt: skip

    error: BaseException | None = raised.value
    assert str(error).startswith(why)
    assert len(said) >= 2
    while error is not None:  # what a log of a traceback would show
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any("hunter2" in line for line in said)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.slow
def test_a_server_that_is_not_there_is_given_up(clip: Path) -> None:
    how = LiveOptions(delay_s=0.5, retry_s=0.0)

    with pytest.raises(EncodeError, match=r"^rtmp://127\.0\.0\.1:1 can't be written to") as raised:
        blur_live(
            source_of(str(clip)), sink_of("rtmp://127.0.0.1:1/live/hunter2"), DarkDetector(),
            SOLID, how,
        )  # fmt: skip

    assert raised.value.__suppress_context__


@pytest.mark.slow
def test_a_folder_that_is_not_there_is_told(clip: Path, tmp_path: Path) -> None:
    sink = sink_of(str(tmp_path / "none" / "out.mkv"))

    with pytest.raises(EncodeError, match="no such file or directory"):
        blur_live(source_of(str(clip)), sink, DarkDetector(), SOLID, LiveOptions(delay_s=0.5))


@pytest.mark.slow
def test_high_dynamic_range_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "hdr.mp4"
    colours = {"color_trc": 16, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    source.write_bytes(
        recorded(
            [driving(3)], kind="mp4", codec="libx265", pixels="yuv420p10le", colours=colours,
            options={"x265-params": "log-level=none"},
        )
    )  # fmt: skip

    with pytest.raises(VideoError, match="HDR"):
        blur_live(source_of(str(source)), sink_of(str(tmp_path / "out.mp4")), DarkDetector())


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pass@camera:554/a?token=b", "rtsp://camera:554"),
        ("rtmp://server/live/key", "rtmp://server"),
        ("https://[::1]:8443/x", "https://::1:8443"),
        ("rtsp://camera:port/", "the address"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(address: str, shown: str) -> None:
    assert shown_address(address) == shown


@pytest.mark.parametrize("address", ["ftp://server/x", "camera:front", "concat://a|b"])
def test_unknown_sources_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        source_of(address)


@pytest.mark.parametrize("address", ["http://server/x", "out.avi", "out", "srt://server"])
def test_unknown_sinks_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"expected|must end in"):
        sink_of(address)


@pytest.mark.parametrize(
    "wrong",
    [{"delay_s": -1}, {"delay_s": 11}, {"rate": 0}, {"retry_s": -1}, {"delay_s": float("nan")}],
    ids=str,
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LiveOptions(**wrong)  # type: ignore[arg-type]


def frame_at(source_s: float) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.time_base = Fraction(1, 1000)
    frame.pts = round(source_s * 1000)
    return frame


@pytest.mark.parametrize(
    ("is_paced", "came_s", "source_s", "taken_s"),
    [
        (False, [0, 1, 2], [50, 51, 52], [0, 1, 2]),
        (False, [0, 1.2, 2], [0, 1, 2], [0, 1.2, 2.2]),
        (False, [0, 5, 5.1], [0, 1, 5], [0, 5, 5.1]),
        (True, [0, 0, 0], [0, 1, 2], [0, 1, 2]),
        (True, [0, 0, 0], [0, 1, 3600], [0, 1, 0]),
        (False, [0, 1, 2], [90_000, 0, 1], [0, 1, 2]),
    ],
    ids=["even", "one late", "held up, then a burst", "a file", "a jump", "a clock that wraps"],
)
def test_frames_are_taken_when_they_come_and_move_as_their_source_says(
    monkeypatch: pytest.MonkeyPatch,
    is_paced: bool,
    came_s: list[float],
    source_s: list[float],
    taken_s: list[float],
) -> None:
    now = iter(came_s)
    monkeypatch.setattr(feed, "time", SimpleNamespace(monotonic=lambda: next(now)))
    clock = feed._Clock(is_paced=is_paced)

    assert [clock.time_of(frame_at(each)) for each in source_s] == pytest.approx(taken_s)


@pytest.mark.slow
def test_a_server_that_takes_nothing_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr("plateblur.video.sinks.SILENT_S", 0.2)
    monkeypatch.setattr("plateblur.video.sinks.WAITING", 2)
    monkeypatch.setattr(Sender, "_run", lambda self: held.wait(WAIT_S))
    sender = Sender(sink_of("rtmp://server/live/key"), None, None, "normal")  # type: ignore[arg-type]

    taken = [sender.put(lambda _: None) for _ in range(3)]
    time.sleep(0.3)
    with pytest.raises(EncodeError, match="rtmp://server takes nothing any more"):
        sender.put(lambda _: None)
    held.set()

    assert taken == [True, True, False]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_live, "open_detector", lambda *_, **__: DarkDetector())
    monkeypatch.setattr(cli_live, "_stop_on_signals", lambda _: None)


def called(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["live", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_the_command_says_what_it_did(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"

    done = called(clip, "-o", out, "--method", "solid", "--delay", "2", "--json")

    assert done.exit_code == 0, done.output
    assert "1 plate hidden in 30 frames" in done.stderr
    assert json.loads(done.stdout)["shown"] == 30
    assert readable(images_in(out)) == 0
    again = called(clip, "-o", out)
    assert again.exit_code == 2


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.mp4", "-o", "out.mp4"],
        ["CLIP", "-o", "CLIP"],
        ["CLIP", "-o", "CLIP", "--overwrite"],
        ["CLIP", "-o", "out.avi"],
        ["ftp://server/x", "-o", "out.mp4"],
        ["CLIP", "-o", "out.mp4", "--delay", "60"],
    ],
    ids=" ".join,
)
def test_the_command_refuses_to_start(clip: Path, arguments: list[str]) -> None:
    before = clip.read_bytes()

    done = called(*(each.replace("CLIP", str(clip)) for each in arguments))

    assert done.exit_code == 2
    assert clip.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_the_command_ends_with_the_reason_and_without_the_password() -> None:
    done = called("rtsp://a:hunter2@127.0.0.1:1/x", "-o", "rtmp://b/c", "--retry-for", "0")

    assert done.exit_code == 1
    assert "rtsp://127.0.0.1:1 can't be opened: connection refused" in done.stderr
    assert "hunter2" not in done.output


def test_the_defaults_of_the_command_are_those_of_the_library() -> None:
    usual = LiveOptions()
    parameters = {each.name: each.default for each in _parameters()}

    assert parameters["delay"] == usual.delay_s
    assert parameters["late"] == usual.late
    assert parameters["sound"] == usual.sound
    assert parameters["quality"] == usual.quality
    assert parameters["rate"] is usual.rate
    assert parameters["retry_for"] == usual.retry_s


def _parameters() -> list[Any]:
    import typer.main

    group: Any = typer.main.get_command(cli.app)
    return list(group.commands["live"].params)
