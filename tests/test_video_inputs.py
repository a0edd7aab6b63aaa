"""Whatever a camera writes: shown as before, hidden in every frame, nothing lost unsaid."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from plateblur.blur import SOLID_GREY
from plateblur.errors import VideoError
from plateblur.types import BlurOptions, Image
from plateblur.video import BlurredClip, ClipLimits, ClipOptions, blur_clip
from plateblur.video.colour import (
    colours_of,
    frame_of,
    hdr_light,
    hidden_planes,
    upright_planes,
)
from plateblur.video.upright import side_data, upright_of
from tests.clips import (
    IMAGE_HW,
    ORIENTATIONS,
    RATE,
    BlinkingDetector,
    driving,
    flashing,
    frames_of,
    plate_at,
    recorded,
    shown_and_heard_at,
    stored_for,
    with_matrix,
    without_packet,
)
from tests.fakes import DarkDetector, boxes

pytestmark = pytest.mark.slow

WRAP_S = 2**33 / 90_000  # Source: ISO/IEC 13818-1: time stamps of 33 bits at 90 kHz
SECONDS = len(driving()) / RATE


def blurred(
    data: bytes,
    *,
    detector: Any = None,
    options: BlurOptions = BlurOptions(),  # noqa: B008 -- frozen
    **how: Any,
) -> tuple[bytes, BlurredClip]:
    out = io.BytesIO()
    detector = detector or BlinkingDetector()
    done = blur_clip(io.BytesIO(data), out, detector, options, ClipOptions(**how))
    return out.getvalue(), done


def readable(image: Image, frame: int) -> bool:
    x1, y1, x2, y2 = plate_at(frame)
    low, high = np.percentile(image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean(axis=2), [5, 95])
    return bool(high - low > 60)


def hidden_in_all(data: bytes, *, frames: int = 20) -> bool:
    shown = frames_of(data)
    assert len(shown) == frames
    return not any(readable(image, number) for number, (_, image) in enumerate(shown))


def by_ffmpeg(data: bytes, folder: Path, *arguments: str) -> bytes:
    """Return the first frame as FFmpeg's player shows it, RGB."""
    clip = folder / "clip.mp4"
    clip.write_bytes(data)
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", "1", *arguments]
    return subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True
    ).stdout


# 1. The display matrix


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_orientation_is_looked_at_and_written_upright(name: str) -> None:
    matrix = ORIENTATIONS[name]
    stored = [np.ascontiguousarray(stored_for(image, *matrix)) for image in driving()]
    clip = with_matrix(recorded([stored], kind="mp4"), *matrix)
    detector = BlinkingDetector()

    result, _ = blurred(clip, detector=detector)

    assert {shape[:2] for shape in detector.__dict__["calls"]} == {IMAGE_HW}
    assert hidden_in_all(result)
    ground = driving(plate=False)[0]
    assert np.abs(frames_of(result)[0][1][:50].astype(int) - ground[:50]).mean() < 6
    with av.open(io.BytesIO(result), "r") as source:
        kinds = [data.type.name for data in side_data(next(source.decode(video=0)))]
    assert "DISPLAYMATRIX" not in kinds


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is the witness")
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_orientation_is_shown_as_ffmpeg_shows_it(name: str, tmp_path: Path) -> None:
    clip = with_matrix(recorded([driving(3, plate=False)], kind="mp4"), *ORIENTATIONS[name])

    result, _ = blurred(clip)

    before, after = by_ffmpeg(clip, tmp_path), by_ffmpeg(result, tmp_path)
    difference = np.frombuffer(before, np.uint8).astype(int) - np.frombuffer(after, np.uint8)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize(
    "matrix",
    [(0.7071, 0.7071, -0.7071, 0.7071), (2, 0, 0, 2), (1, 0.5, 0, 1), (1, 0, 0, 0), (0, 0, 0, 0)],
    ids=["45 degrees", "scaled", "sheared", "flat", "nothing"],
)
def test_any_other_matrix_is_refused_with_the_reason(matrix: tuple[float, ...]) -> None:
    a, b, c, d = matrix
    with pytest.raises(VideoError, match="display matrix"):
        blurred(with_matrix(recorded([driving(3)], kind="mp4"), a, b, c, d))


def test_an_orientation_that_the_pictures_tell_themselves_is_refused() -> None:
    """H.264 may say it for some pictures and mean all; players differ in whether they follow."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(recorded([driving()], kind="mpegts")), "r") as source,
        av.open(out, "w", format="mpegts") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        turning = BitStreamFilterContext(
            "h264_metadata=display_orientation=insert:rotate=90", source.streams.video[0]
        )
        for packet in source.demux(video=0):
            for turned in turning.filter(packet if packet.size else None):
                turned.stream = stream
                target.mux(turned)
    with av.open(io.BytesIO(out.getvalue()), "r") as source:
        told = next(source.decode(video=0))
    assert "DISPLAYMATRIX" in [data.type.name for data in side_data(told)]

    with pytest.raises(VideoError, match="turned the same way"):
        blurred(out.getvalue())


# 2. Pixels that are not square


@pytest.mark.parametrize(
    ("aspect", "turned", "looked_at_hw", "shown"),
    [
        (Fraction(4, 3), False, (120, 213), Fraction(213, 120)),
        (Fraction(8, 9), False, (135, 160), Fraction(160, 135)),
        (Fraction(4, 3), True, (213, 120), Fraction(120, 213)),
    ],
    ids=["wider", "narrower", "wider and turned"],
)
def test_squeezed_frames_are_looked_at_and_shown_unsqueezed(
    aspect: Fraction, turned: bool, looked_at_hw: tuple[int, int], shown: Fraction
) -> None:
    clip = recorded([driving()], kind="mp4", pixel_aspect=aspect)
    if turned:
        clip = with_matrix(clip, *ORIENTATIONS["turned right"])
    detector = BlinkingDetector()

    result, done = blurred(clip, detector=detector)

    assert {shape[:2] for shape in detector.__dict__["calls"]} == {looked_at_hw}
    assert done.image_hw == looked_at_hw
    with av.open(io.BytesIO(result), "r") as source:
        video = source.streams.video[0]
        ratio = (video.sample_aspect_ratio or 1) * Fraction(video.width, video.height)
    assert float(ratio) == pytest.approx(float(shown), rel=0.01)
    if not turned:
        assert hidden_in_all(result)


# 3. Times


@pytest.mark.parametrize("start_s", [0, 50_000, WRAP_S - 2.4], ids=["0", "50,000 s", "clock wraps"])
@pytest.mark.parametrize("kind", ["mpegts", "matroska"])
def test_times_start_at_zero_and_nothing_is_lost(start_s: float, kind: str) -> None:
    start_s = round(start_s * RATE) / RATE
    clip = recorded([flashing()], kind=kind, sounds=["aac"], start_s=start_s, beep_s=1.0)

    result, done = blurred(clip)

    assert done.frames == 20
    times = [time_s for time_s, _ in frames_of(result)]
    assert times == pytest.approx([times[0] + n / RATE for n in range(20)], abs=2e-3)
    assert 0 <= times[0] < 0.1
    with av.open(io.BytesIO(result), "r") as source:
        assert source.start_time == pytest.approx(0, abs=30_000)
        assert float(source.duration or 0) / av.time_base == pytest.approx(SECONDS, abs=0.15)
    flash, heard = shown_and_heard_at(result)
    assert flash == pytest.approx(heard, abs=0.05)


@pytest.mark.parametrize("late_s", [-0.5, 0.7], ids=["sound first", "pictures first"])
@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts"])
def test_a_delay_between_picture_and_sound_stays(late_s: float, kind: str) -> None:
    clip = recorded(
        [flashing()], kind=kind, sounds=["aac"], start_s=1, sound_late_s=late_s, beep_s=1.0
    )
    flash, heard = shown_and_heard_at(clip)
    assert heard - flash == pytest.approx(late_s, abs=0.06)

    flash, heard = shown_and_heard_at(blurred(clip)[0])

    assert heard - flash == pytest.approx(late_s, abs=0.06)


def test_a_rate_that_varies_stays() -> None:
    out = io.BytesIO()
    ticks = [0, 33, 70, 99, 140, 400, 433, 1200, 1201, 1234]  # ms, as a phone in the dark
    with av.open(out, "w", format="matroska") as target:
        stream: Any = target.add_stream("libx264", rate=30)
        stream.height, stream.width = IMAGE_HW
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for pts, image in zip(ticks, driving(10), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))

    result, _ = blurred(out.getvalue())

    assert [time_s for time_s, _ in frames_of(result)] == pytest.approx(
        [pts / 1000 for pts in ticks], abs=1e-3
    )


@pytest.mark.parametrize("sound", ["pcm_s16le", "adpcm_ms", "mp3"])
def test_b_frames_in_avi_stay_in_order_and_in_step(sound: str) -> None:
    clip = recorded(
        [flashing()],
        kind="avi",
        sounds=[sound],
        beep_s=1.0,
        options={"crf": "10", "bf": "3", "b-pyramid": "normal"},
    )

    result, done = blurred(clip)

    assert done.frames == 20
    levels = [float(image.mean()) for _, image in frames_of(result)]
    assert [level > 150 for level in levels] == [False] * 10 + [True] * 10
    flash, heard = shown_and_heard_at(result)
    assert flash == pytest.approx(heard, abs=0.08)


# 4. Sound


@pytest.mark.parametrize(
    ("kind", "sound", "container", "comes_out_as"),
    [
        ("mp4", "aac", "mp4", "aac"),
        ("mpegts", "mp2", "mp4", "aac"),
        ("mpegts", "mp2", "mkv", "mp2"),
        ("avi", "adpcm_ms", "mp4", "aac"),
        ("avi", "adpcm_ima_wav", "mp4", "aac"),
        ("mov", "adpcm_ima_qt", "mp4", "aac"),
        ("asf", "wmav2", "mp4", "aac"),
        ("avi", "wmav2", "mkv", "aac"),
        ("matroska", "pcm_s32le", "mp4", "aac"),
        ("mov", "pcm_f32le", "mov", "pcm_f32le"),
        ("mov", "pcm_s24be", "mkv", "aac"),
        ("matroska", "flac", "mkv", "flac"),
        ("webm", "libopus", "mov", "aac"),
        ("mpegts", "ac3", "mp4", "ac3"),
        ("mpegts", "aac", "mkv", "aac"),
    ],
)
def test_sound_is_never_lost(kind: str, sound: str, container: str, comes_out_as: str) -> None:
    codec = {"webm": "libvpx", "asf": "mpeg4"}.get(kind, "libx264")
    video = {"crf": "6", "b": "2000000"}
    clip = recorded([flashing()], kind=kind, codec=codec, sounds=[sound], beep_s=1.0, options=video)

    result, done = blurred(clip, container=container)

    with av.open(io.BytesIO(result), "r") as source:
        (track,) = source.streams.audio
        assert track.codec_context.name.removesuffix("float") == comes_out_as
        assert track.codec_context.layout.name in ("stereo", "2 channels")
        heard = sum(frame.samples for frame in source.decode(track))
        assert heard / track.sample_rate == pytest.approx(SECONDS, abs=0.15)
    flash, beep = shown_and_heard_at(result)
    assert flash == pytest.approx(beep, abs=0.08)
    assert any("written as AAC" in note for note in done.notes) == (
        comes_out_as == "aac" and sound != "aac"
    )


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes the sound")
@pytest.mark.parametrize("codec", ["s302m", "dca", "pcm_bluray"])
def test_sound_of_broadcasts_and_discs_stays(codec: str, tmp_path: Path) -> None:
    given, stream = tmp_path / "in.mp4", tmp_path / "in.m2ts"
    given.write_bytes(recorded([flashing()], kind="mp4", sounds=["aac"], beep_s=1.0))
    how = ["-c:v", "copy", "-c:a", codec, "-strict", "-2"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(given), *how, str(stream)], check=True)

    result, done = blurred(stream.read_bytes())

    flash, beep = shown_and_heard_at(result)
    assert flash == pytest.approx(beep, abs=0.08)
    assert done.notes == (f"sound track 1: {codec} is written as AAC",)


def test_all_sound_tracks_stay() -> None:
    clip = recorded([driving()], kind="matroska", sounds=["aac", "mp2", "pcm_s16le"])

    result, _ = blurred(clip, options=BlurOptions(metadata="safe"))

    with av.open(io.BytesIO(result), "r") as source:
        assert [track.language for track in source.streams.audio] == ["eng", "deu", "fra"]
        for track in source.streams.audio:
            source.seek(0)
            assert sum(frame.samples for frame in source.decode(track)) > 90_000


def test_sound_is_dropped_on_request_and_said() -> None:
    result, done = blurred(recorded([driving()], kind="mp4", sounds=["aac", "aac"]), sound="drop")

    with av.open(io.BytesIO(result), "r") as source:
        assert not source.streams.audio
    assert "left out: 2 sound tracks" in done.notes


def test_sound_that_is_not_supported_is_refused_before_the_pictures_are_looked_at() -> None:
    clip = recorded([driving()], kind="matroska", sounds=["aac"])
    unknown = clip.replace(b"A_AAC", b"A_XYZ")
    assert unknown != clip
    detector = BlinkingDetector()

    with pytest.raises(VideoError, match="sound"):
        blurred(unknown, detector=detector)

    assert detector.__dict__["calls"] == []
    assert hidden_in_all(blurred(unknown, sound="drop")[0])


# 5. Several tracks, and what goes


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_every_video_track_is_looked_at_and_written(container: str) -> None:
    front, rear = driving(), driving()
    clip = recorded([front, rear], kind="mp4", sounds=["aac"])

    result, done = blurred(clip, container=container)

    assert done.frames == 40
    assert done.plates == 2
    for track in (0, 1):
        with av.open(io.BytesIO(result), "r") as source:
            frames: list[Any] = list(source.decode(video=track))
        shown = [frame.to_ndarray(format="rgb24") for frame in frames]
        assert len(shown) == 20
        assert not any(readable(image, number) for number, image in enumerate(shown))


def test_a_video_track_that_cannot_be_read_means_no_clip() -> None:
    clip = recorded([driving(), driving()], kind="matroska")
    at = clip.rindex(b"V_MPEG4/ISO/AVC")
    changed = clip[:at] + b"V_MPEG4/ISO/XYZ" + clip[at + 15 :]

    with pytest.raises(VideoError, match="known codec"):
        blurred(changed)


def test_covers_and_subtitles_go_and_it_is_said() -> None:
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(recorded([driving()], kind="mp4")), "r") as source,
        av.open(out, "w", format="matroska") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        subtitles: Any = target.add_mux_stream("srt")
        target.add_attachment("who.txt", "text/plain", b"who filmed this")
        base, title = Fraction(1), {"title": "who drives"}
        target.set_chapters(
            [{"id": n, "start": 0, "end": 1, "time_base": base, "metadata": title} for n in (1, 2)]
        )
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
        line = av.Packet(b"who is seen")
        line.pts = line.dts = 0
        line.duration, line.stream, line.time_base = 500, subtitles, Fraction(1, 1000)
        target.mux(line)

    result, done = blurred(out.getvalue())

    assert hidden_in_all(result)
    assert done.notes == (
        *("left out: 1 subtitle track", "left out: 1 attached file"),
        "left out: 2 chapter marks",
    )
    assert b"who " in out.getvalue()
    assert b"who " not in result


TOLD = {
    "creation_time": "2024-05-06T07:08:09.000000Z",
    "com.apple.quicktime.model": "a phone",
    "location": "+48.1000-011.5000/",
    "title": "who filmed",
}


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("strip", set()),
        ("safe", {"creation_time", "com.apple.quicktime.model"}),
        ("keep", set(TOLD)),
    ],
)
def test_metadata_goes_by_policy(policy: Any, kept: set[str], container: str) -> None:
    clip = recorded([driving(3)], kind="matroska", metadata=TOLD)

    result, _ = blurred(clip, options=BlurOptions(metadata=policy), container=container)

    with av.open(io.BytesIO(result), "r") as source:
        told = {key.lower(): value for key, value in source.metadata.items()}
    for key, value in TOLD.items():
        if key in kept:
            assert told[key] == value
        else:
            assert key not in told
            assert value.encode() not in result


# 6. Damage


def test_a_damaged_packet_of_sound_does_not_refuse_the_clip() -> None:
    clip = recorded([driving()], kind="mpegts", sounds=["aac"])
    lost = without_packet(clip, pid=0x101, number=10)

    result, done = blurred(lost)

    assert hidden_in_all(result)
    assert any("damaged" in note for note in done.notes)
    with av.open(io.BytesIO(result), "r") as source:
        heard = sum(frame.samples for frame in source.decode(audio=0))
    assert heard / 48_000 > 0.8 * SECONDS


def damaged_at(frame: int, *, frames: int = 40, length: int = 40) -> bytes:
    """Return a clip whose packet number `frame` is damaged; a key frame every 10."""
    clip = recorded([driving(frames)], kind="mp4", options={"crf": "10", "g": "10", "bf": "0"})
    with av.open(io.BytesIO(clip), "r") as source:
        packet = next(itertools.islice(source.demux(video=0), frame, None))
        at, size = int(packet.pos or 0), packet.size
    changed = bytearray(clip)
    start = at + (size - length if size < 3 * length else size // 2)  # behind its headers
    changed[start : start + length] = bytes(range(1, 1 + length))
    return bytes(changed)


@pytest.mark.parametrize("frame", [0, 13, 39], ids=["first", "amid", "last"])
def test_a_damaged_picture_is_refused_before_anything_is_written(frame: int) -> None:
    out = io.BytesIO()

    with pytest.raises(VideoError, match="damaged: hide"):
        blur_clip(io.BytesIO(damaged_at(frame)), out, BlinkingDetector())

    assert out.getvalue() == b""


def test_damaged_pictures_are_blanked_up_to_the_next_whole_one_and_said() -> None:
    result, done = blurred(damaged_at(13), damaged="hide")

    shown = frames_of(result)
    assert len(shown) == 40
    blank = [float(image.std()) < 4 for _, image in shown]
    assert blank == [False] * 13 + [True] * 7 + [False] * 20
    assert "7 of 40 frames (0.7 s) can't be decoded: blanked" in done.notes
    assert [time_s for time_s, _ in shown] == pytest.approx([n / RATE for n in range(40)], abs=2e-3)


# 7 and 8. Levels, colours, HDR, containers, quality


def told_colours(data: bytes) -> tuple[dict[str, int], str, Any]:
    """Return the colours that the first frame tells, its pixels' layout, and its luma."""
    with av.open(io.BytesIO(data), "r") as source:
        frame = next(source.decode(video=0))
        names = ("colorspace", "color_range", "color_trc", "color_primaries")
        told = {name: int(getattr(frame, name)) for name in names}
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        luma = np.frombuffer(cast(Any, frame.planes[0]), kind)
        columns = frame.planes[0].line_size // luma.itemsize
        return told, frame.format.name, luma.reshape(-1, columns)[: frame.height, : frame.width]


PQ = {"colorspace": 9, "color_range": 1, "color_trc": 16, "color_primaries": 9}
HLG = {**PQ, "color_trc": 18}
HD = {"colorspace": 1, "color_range": 1, "color_trc": 1, "color_primaries": 1}
SD = {"colorspace": 6, "color_range": 1, "color_trc": 6, "color_primaries": 6}
FULL = {**SD, "color_range": 2}


@pytest.mark.parametrize(
    ("codec", "pixels", "colours", "comes_out_as"),
    [
        ("libx264", "yuv420p", HD, "yuv420p"),
        ("libx264", "yuv420p", SD, "yuv420p"),
        ("libx264", "yuv420p", {}, "yuv420p"),
        ("libx264", "yuvj420p", FULL, "yuvj420p"),
        ("libx264", "yuv420p", FULL, "yuvj420p"),
        ("libx264", "yuv422p", HD, "yuv420p"),
        ("libx264", "yuv444p10le", HD, "yuv420p"),
        ("libx265", "yuv420p10le", PQ, "yuv420p10le"),
        ("libx265", "yuv420p10le", HLG, "yuv420p10le"),
        ("libx265", "yuv422p10le", HLG, "yuv420p10le"),
    ],
    ids=[
        *("HD", "SD", "unsaid", "full range", "full range by its tag", "4:2:2", "10-bit 4:4:4"),
        *("PQ", "HLG", "HLG 4:2:2"),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_levels_and_colours_stay(
    codec: str, pixels: str, colours: dict[str, int], comes_out_as: str, container: str
) -> None:
    clip = recorded([driving(5)], kind="matroska", codec=codec, pixels=pixels, colours=colours)
    before, stored_as, luma = told_colours(clip)

    result, _ = blurred(clip, container=container)

    after, written_as, written = told_colours(result)
    assert written_as == comes_out_as
    for name, code in before.items():
        if code != 2 and name != "color_range":
            assert after[name] == code, name
    if colours:
        assert after["color_range"] == colours["color_range"]
    scale = 4 if "10" in stored_as and "10" not in written_as else 1
    outside = luma[:50].astype(float) / scale - written[:50]
    assert np.abs(outside).mean() < (6 if "10" in written_as else 1.5)
    assert abs(outside.mean()) < 0.3
    levels = written[62:72, 14:46]
    assert float(levels.std()) < (60 if "10" in written_as else 20)


def test_the_light_of_hdr_stays_told() -> None:
    light = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    clip = recorded(
        [driving(3)],
        kind="matroska",
        codec="libx265",
        pixels="yuv420p10le",
        colours=PQ,
        options={"x265-params": f"log-level=error:{light}:max-cll=1000,400"},
    )

    result, _ = blurred(clip)

    told = []
    for data in (clip, result):
        with av.open(io.BytesIO(data), "r") as source:
            told.append(hdr_light(next(source.decode(video=0))))
    assert told[0] == told[1] == f"{light}:max-cll=1000,400"


def test_dolby_vision_without_a_base_is_refused() -> None:
    """Its colours mean nothing to other players; H.273 numbers them 15."""
    clip = recorded(
        [driving(3)],
        kind="matroska",
        codec="libx265",
        pixels="yuv420p10le",
        colours={**PQ, "colorspace": 9},
    )
    frame = next(av.open(io.BytesIO(clip), "r").decode(video=0))
    frame.colorspace = 15
    with pytest.raises(VideoError, match="Dolby Vision"):
        colours_of(frame)


def test_what_is_not_hidden_keeps_its_very_pixels() -> None:
    with av.open(io.BytesIO(recorded([driving(3)], kind="mp4")), "r") as source:
        frame = next(source.decode(video=0))
    colours, upright = colours_of(frame), upright_of(frame, None)
    planes = upright_planes(frame, colours, upright)
    x1, y1, x2, y2 = plate_at(0)

    hidden = hidden_planes(planes, boxes(plate_at(0)), colours, BlurOptions(margin=0))

    assert (hidden[0][y1:y2, x1:x2] != planes[0][y1:y2, x1:x2]).mean() > 0.9
    for part, whole, step in zip(hidden, planes, (1, 2, 2), strict=True):
        changed = np.argwhere(part != whole) * step
        top, left = changed.min(axis=0)
        bottom, right = changed.max(axis=0)
        assert top >= y1 - 6
        assert left >= x1 - 6
        assert bottom <= y2 + 6
        assert right <= x2 + 6


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_the_output_is_of_the_kind_that_was_asked_for(container: str) -> None:
    result, _ = blurred(recorded([driving()], kind="mp4", sounds=["aac"]), container=container)

    head = {"mp4": b"ftypisom", "mov": b"ftypqt  ", "mkv": b"\x1aE\xdf\xa3"}[container]
    assert head in result[:12]
    assert hidden_in_all(result)


def test_quality_costs_size() -> None:
    clip = recorded([driving()], kind="mp4")

    sizes = [len(blurred(clip, quality=quality)[0]) for quality in ("high", "normal", "small")]

    assert sizes[0] > 1.2 * sizes[1] > 1.44 * sizes[2]


def test_a_clip_that_was_cut_short_is_refused_or_said() -> None:
    clip = recorded([driving(40)], kind="matroska", sounds=["aac"], options={"crf": "10", "g": "5"})
    cut = clip[: len(clip) * 6 // 10]
    detector = BlinkingDetector()

    with pytest.raises(VideoError, match="cut short"):
        blurred(cut, detector=detector)
    assert detector.__dict__["calls"] == []
    _, done = blurred(cut, damaged="hide")
    assert any("cut short" in note for note in done.notes)
    assert 10 < done.frames < 30


def test_sound_whose_first_packets_are_silent_starts_at_zero_too() -> None:
    """A decoder of WMA gives nothing for its first packet."""
    clip = recorded(
        [driving()], kind="asf", codec="mpeg4", sounds=["wmav2"], options={"b": "2000000"}
    )
    result, _ = blurred(clip)

    with av.open(io.BytesIO(result), "r") as source:
        assert source.start_time == pytest.approx(0, abs=2_000)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg cuts the clip")
@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_sound_that_an_edit_list_cuts_away_is_not_heard(container: str, tmp_path: Path) -> None:
    """Cut without encoding again, as phones do it: the sound before the cut is still stored."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    whole.write_bytes(recorded([driving()], kind="mp4", sounds=["aac"]))
    command = ["ffmpeg", "-v", "error", "-ss", "0.35", "-i", str(whole), "-c", "copy", str(cut)]
    subprocess.run(command, check=True)

    result, _ = blurred(cut.read_bytes(), container=container)

    assert frames_of(result)[0][0] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (ClipLimits(pictures=1), "1 video tracks"),
        (ClipLimits(sounds=1), "1 sound tracks"),
        (ClipLimits(length_s=1), "up to 1 s"),
        (ClipLimits(frame_pixels=30_000), "megapixels"),
    ],
    ids=["video tracks", "sound tracks", "length", "size as shown"],
)
def test_a_clip_beyond_the_limits_is_refused_before_it_is_looked_at(
    limits: ClipLimits, says: str
) -> None:
    clip = recorded(
        [driving(), driving()], kind="mp4", sounds=["aac", "aac"], pixel_aspect=Fraction(2)
    )
    detector = BlinkingDetector()

    with pytest.raises(VideoError, match=says):
        blur_clip(io.BytesIO(clip), io.BytesIO(), detector, limits=limits)

    assert detector.__dict__["calls"] == []


def test_no_colour_of_what_is_hidden_or_beside_it_mixes_at_the_edges() -> None:
    """Colour is stored for blocks of 2 x 2, and boxes begin anywhere."""
    image = np.full((*IMAGE_HW, 3), (220, 30, 30), np.uint8)
    box = (41.0, 51.0, 84.0, 72.0)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    colours = colours_of(frame)
    planes = upright_planes(frame, colours, upright_of(frame, None))

    hidden = hidden_planes(planes, boxes(box), colours, BlurOptions(method="solid", margin=0))

    shown = frame_of(hidden, colours).to_ndarray(format="rgb24", interpolation="BILINEAR")
    assert np.abs(shown[51:72, 41:84].astype(int) - SOLID_GREY).max() <= 4


@pytest.mark.parametrize(
    ("kind", "codec", "pixels", "lost"),
    [
        ("mp4", "libx264", "yuv420p", ()),
        ("mp4", "libx264", "yuv444p", ("colours were reduced to half the resolution (4:2:0)",)),
        (
            "mov",
            "prores_ks",
            "yuv422p10le",
            (
                "colours were reduced to 8 bits a channel",
                "colours were reduced to half the resolution (4:2:0)",
            ),
        ),
        ("webm", "libvpx-vp9", "yuva420p", ("transparency was dropped",)),
    ],
    ids=["4:2:0", "4:4:4", "10 bits", "transparent"],
)
def test_what_the_pictures_lose_is_said(
    kind: str, codec: str, pixels: str, lost: tuple[str, ...]
) -> None:
    clip = recorded([driving(4)], kind=kind, codec=codec, pixels=pixels, options={"threads": "1"})

    done = blur_clip(io.BytesIO(clip), io.BytesIO(), DarkDetector())

    assert done.notes == lost


def test_an_interlaced_clip_is_written_as_progressive_and_that_is_said() -> None:
    interlaced = {"flags": "+ilme+ildct", "field_order": "tt", "q": "2"}
    clip = recorded([driving(4)], kind="mpegts", codec="mpeg2video", options=interlaced)

    done = blur_clip(io.BytesIO(clip), io.BytesIO(), DarkDetector())

    assert done.notes == ("interlaced pictures were written as progressive",)
