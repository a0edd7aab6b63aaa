"""Inputs that went wrong for people who do this job, each through the command, and what comes out.

    python -m benchmarks.cases --cases ../shared/cases

Each file goes through `plateblur blur` or `plateblur video` in a process of its own, with the
shipped model. FFmpeg, ExifTool and Chromium are the witnesses: they say how the input and the
output are shown. A plate counts as hidden where 99 % of a box that the detector finds in the shown
input is solid grey in the shown output. Figures go to benchmarks/results/cases.json.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.moving import HIDDEN, LEVELS
from plateblur.blur import SOLID_GREY
from plateblur.detector import OnnxDetector
from plateblur.formats import FORMATS, sniff
from plateblur.photo import decode
from plateblur.pipeline import DEFAULTS
from plateblur.types import Image

RESULTS = Path(__file__).parent / "results" / "cases.json"
PLATEBLUR = "from plateblur.cli import app; app()"  # as the installed command does
IN_STEP_S = 0.045  # Source: ITU-R BT.1359: sound ahead of its picture by so much is noticed
SAME_LEVELS = 4.0  # mean difference of a frame and its copy beside the plates, encoded again
BOMB_S = 10.0  # within which a costly photo is refused, the start of Python included
POINTING = ("Motion", "MicroVideo", "hdrgm", "Container", "MPF", "MPImage", "Trailer")
COLOURS = ("ColorPrimaries", "TransferCharacteristics", "MatrixCoefficients", "VideoFullRangeFlag")
SHOW_PHOTO = """async (address) => {
    const photo = new Image(); photo.src = address; await photo.decode();
    const canvas = document.createElement("canvas");
    canvas.width = 80; canvas.height = 45;
    const context = canvas.getContext("2d", {colorSpace: "srgb"});
    context.drawImage(photo, 0, 0, 80, 45);
    const levels = Array.from(context.getImageData(0, 0, 80, 45).data);
    return {width: photo.naturalWidth, height: photo.naturalHeight, levels};
}"""
SHOW_CLIP = """(address) => new Promise((resolve) => {
    const clip = document.createElement("video");
    clip.muted = true;
    clip.onerror = () => resolve(null);
    clip.onloadeddata = () => resolve(
        {width: clip.videoWidth, height: clip.videoHeight, seconds: clip.duration});
    clip.src = address;
})"""

Shown = dict[str, Any]
Browser = Callable[[str, Path], Shown | None]


@dataclass(slots=True)
class Row:
    """What became of one file.

    Attributes:
        file: its name.
        required: of it, in a few words.
        code: the exit code of the command.
        said: what the command said, without its progress.
        seconds: that it took.
        before: what the witnesses say of the input.
        after: what they say of the output.
        checks: what was required, and whether it is so.
    """

    file: str
    required: str
    code: int = 0
    said: str = ""
    seconds: float = 0.0
    before: Shown = field(default_factory=dict)
    after: Shown = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every case needs.

    Attributes:
        cases: folder of the inputs.
        out: folder for outputs.
        detector: finds the plates in the shown input.
        browser: says how it shows a photo or a clip.
    """

    cases: Path
    out: Path
    detector: OnnxDetector
    browser: Browser


def run(row: Row, *arguments: str | Path) -> None:
    """Run the command, and note what it said."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PLATEBLUR, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    row.seconds = round(time.monotonic() - began_s, 1)
    row.code = done.returncode
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    row.said = " ".join(line for line in lines if line and not line.startswith("Blurring "))


# Clips


def probed(path: Path, browser: Browser) -> Shown:
    """Return what ffprobe and the browser say of a clip."""
    ffprobe = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)],
        capture_output=True,
        check=True,
    )
    streams = json.loads(ffprobe.stdout)["streams"]
    pictures = [each for each in streams if each["codec_type"] == "video"]
    sounds = [each for each in streams if each["codec_type"] == "audio"]
    starts = [float(each["start_time"]) for each in (*pictures, *sounds)]
    return {
        "frames": [int(each["nb_read_frames"]) for each in pictures],
        "stored": [f"{each['width']} x {each['height']}" for each in pictures],
        "pixel aspect": [each.get("sample_aspect_ratio", "1:1") for each in pictures],
        "pictures": [each["codec_name"] for each in pictures],
        "sounds": [each["codec_name"] for each in sounds],
        "sound ahead of picture, s": [
            round(float(pictures[0]["start_time"]) - float(each["start_time"]), 3)
            for each in sounds
        ],
        "starts at, s": round(min(starts), 3),
        "browser": browser("video/mp4", path) if path.suffix == ".mp4" else "plays no such files",
    }


def frames_shown(path: Path, picture: int) -> list[Image]:
    """Return the frames of a video track as FFmpeg's player shows them."""
    from plateblur.video.reading import opened  # for the size alone

    filters = "scale=trunc(iw*max(sar\\,1)/2)*2:trunc(ih/min(sar\\,1)/2)*2,setsar=1"
    with path.open("rb") as clip, opened(clip) as source:
        stream = source.streams.video[picture]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width = int(stream.width * max(aspect, Fraction(1))) // 2 * 2
        height = int(stream.height / min(aspect, Fraction(1))) // 2 * 2
    raw = subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-i", str(path), "-map", f"0:v:{picture}"),
            *("-fps_mode", "passthrough", "-vf", filters if aspect != 1 else "null"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        ],
        capture_output=True,
        check=True,
    ).stdout
    return list(np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3))


def hidden(before: list[Image], after: list[Image], detector: OnnxDetector) -> Shown:
    """Return how many frames hold plates, in how many all are hidden, and how alike the rest is."""
    with_plates = hidden_in = 0
    differences = []
    for old, new in zip(before, after, strict=False):
        found = detector.detect(old, min_confidence=DEFAULTS.min_confidence).xyxy
        is_grey = np.abs(new.astype(int) - SOLID_GREY).max(axis=2) <= LEVELS
        shares = [float(is_grey[_inside(box)].mean()) for box in found]
        with_plates += bool(shares)
        hidden_in += bool(shares and min(shares) >= HIDDEN)
        apart = np.abs(new.astype(int) - old).mean(axis=2)
        if not is_grey.all():
            differences.append(float(apart[~is_grey].mean()))
    return {
        "frames with plates": with_plates,
        "frames with all of them hidden": hidden_in,
        "difference beside, levels": round(max(differences, default=0.0), 2),
    }


def _inside(box: NDArray[np.float32]) -> tuple[slice, slice]:
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    return slice(max(0, y1), y2), slice(max(0, x1), x2)


def clip(bench: Bench, name: str, required: str, *, seconds: float) -> Row:
    """Blur a clip, and check what holds for every clip."""
    given, out = bench.cases / name, bench.out / Path(name).with_suffix(".mp4").name
    row = Row(name, required)
    run(row, "video", given, "-o", out, "--method", "solid")
    row.before = probed(given, bench.browser)
    row.checks["done"] = row.code == 0
    if not out.exists():
        return row
    row.after = probed(out, bench.browser)
    tracks = range(len(row.before["frames"]))
    row.after["tracks"] = [
        hidden(frames_shown(given, n), frames_shown(out, n), bench.detector) for n in tracks
    ]
    sound_before, sound_after = (
        each["sound ahead of picture, s"] for each in (row.before, row.after)
    )
    lasts_s = max(_ends_s(out))
    row.checks |= {
        "every frame": row.after["frames"] == row.before["frames"],
        "plates in the input": all(each["frames with plates"] for each in row.after["tracks"]),
        "hidden in every frame": all(
            each["frames with plates"] == each["frames with all of them hidden"]
            for each in row.after["tracks"]
        ),
        "shown as the input is": all(
            each["difference beside, levels"] < SAME_LEVELS for each in row.after["tracks"]
        ),
        "starts at 0": abs(row.after["starts at, s"]) < IN_STEP_S,
        f"{seconds:g} s long": abs(lasts_s - seconds) < 0.15,
        "every sound track": len(sound_before) == len(sound_after),
        "in step": all(
            abs(old - new) < IN_STEP_S for old, new in zip(sound_before, sound_after, strict=False)
        ),
    }
    row.after["seconds"] = round(lasts_s, 2)
    return row


def _ends_s(path: Path) -> list[float]:
    ffprobe = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=start_time,duration", "-of", "json",
         str(path)],
        capture_output=True,
        check=True,
    )  # fmt: skip
    streams = json.loads(ffprobe.stdout)["streams"]
    return [float(each["start_time"]) + float(each["duration"]) for each in streams]


def anamorphic(bench: Bench, name: str, required: str) -> Row:
    """Check that the browser shows the output as wide as the input."""
    row = clip(bench, name, required, seconds=3)
    shown = row.after.get("browser") or {}
    row.checks["640 x 360 in the browser"] = (shown.get("width"), shown.get("height")) == (640, 360)
    return row


def lost_sound(bench: Bench, name: str, required: str) -> Row:
    """Check that the damage is said."""
    row = clip(bench, name, required, seconds=3)
    row.checks["said or concealed"] = "damaged" in row.said or row.code == 0
    return row


# Photos


def tagged(path: Path, browser: Browser) -> Shown:
    """Return what ExifTool and the browser say of a photo."""
    exiftool = subprocess.run(
        ["exiftool", "-a", "-j", "-G1", str(path)], capture_output=True, check=True
    )
    tags = json.loads(exiftool.stdout)[0]
    format_ = sniff(path.read_bytes())
    media_type = FORMATS[format_.name].media_type if format_ else "image/jpeg"
    return {
        "format": format_.name if format_ else None,
        "colours": {
            name: value
            for tag, value in tags.items()
            if (name := tag.rpartition(":")[2]) in COLOURS
        },
        "points at other pictures": sorted(
            tag for tag in tags if any(word in tag for word in POINTING)
        ),
        "browser": browser(media_type, path),
    }


def photo(bench: Bench, name: str, required: str, *options: str) -> Row:
    """Blur a photo, and check what holds for every photo."""
    given, out = bench.cases / name, bench.out / name
    row = Row(name, required)
    run(row, "blur", given, "-o", out, "--method", "solid", *options)
    row.checks["done"] = row.code == 0
    row.before = tagged(given, bench.browser)
    if not out.exists():
        return row
    row.after = tagged(out, bench.browser)
    before, after = (decode(path.read_bytes()).pixels for path in (given, out))
    row.after |= (counts := hidden([before], [after], bench.detector))
    row.checks |= {
        "same format": row.after["format"] == row.before["format"],
        "plates in the input": bool(counts["frames with plates"]),
        "hidden": counts["frames with plates"] == counts["frames with all of them hidden"],
    }
    return row


def coloured(bench: Bench, name: str, required: str) -> Row:
    """Check that the colours are said, and shown, as before."""
    row = photo(bench, name, required)
    row.checks["ExifTool reads the same colours"] = (
        row.before["colours"] == row.after.get("colours") != {}
    )
    shown = [each.get("browser") for each in (row.before, row.after)]
    if all(shown):
        one, other = (np.array(each["levels"]) for each in shown if each)
        # The plates are grey now; the median is of what isn't.
        apart = float(np.median(np.abs(one - other)))
        row.after["difference in the browser, levels"] = apart
        row.checks["same colours in the browser"] = apart <= SAME_LEVELS
    return row


def stereo(bench: Bench, name: str, required: str) -> Row:
    """Check that the loss is said, and that `--in-place` refuses it."""
    row = photo(bench, name, required)
    row.checks["the loss is said"] = "dropped" in row.said
    copy = bench.out / "in-place" / name
    copy.parent.mkdir()
    shutil.copyfile(bench.cases / name, copy)
    refused = Row(name, "")
    run(refused, "blur", "--in-place", copy)
    untouched = copy.read_bytes() == (bench.cases / name).read_bytes()
    row.checks["--in-place refuses"] = refused.code != 0 and untouched
    done = Row(name, "")
    run(done, "blur", "--in-place", "--drop-other-pictures", copy)
    row.checks["--drop-other-pictures allows it"] = (
        done.code == 0 and copy.read_bytes() != (bench.cases / name).read_bytes()
    )
    row.said += " | in place: " + refused.said
    return row


def pointing(bench: Bench, name: str, required: str) -> Row:
    """Check that nothing points at what is gone, under `keep` as well."""
    row = photo(bench, name, required, "--metadata", "keep")
    row.checks["the input points at other pictures"] = bool(row.before["points at other pictures"])
    row.checks["nothing points there"] = row.after.get("points at other pictures") == []
    data = (bench.out / name).read_bytes()
    row.checks["nothing follows the photo"] = data.endswith(b"\xff\xd9") and b"ftyp" not in data
    return row


def bomb(bench: Bench, name: str, required: str) -> Row:
    """Make the costly photo, and check that it is refused soon."""
    given = bench.out / "bomb.jpg"
    subprocess.run(
        [sys.executable, str(bench.cases / name), str(given)], check=True, capture_output=True
    )
    row = Row(name, required)
    run(row, "blur", given, "-o", bench.out / "blurred-bomb.jpg")
    row.before = {"bytes": given.stat().st_size}
    row.checks = {
        "refused": row.code == 1 and "scans" in row.said,
        "nothing is written": not (bench.out / "blurred-bomb.jpg").exists(),
        f"within {BOMB_S:g} s": row.seconds < BOMB_S,
    }
    return row


CASES: dict[str, tuple[Callable[..., Row], str, dict[str, Any]]] = {
    "v3-stored-mirrored-hflip-matrix.mp4": (
        *(clip, "shown as players show the input, hidden in every frame"),
        {"seconds": 1},
    ),
    "v-anamorphic-sar4-3.mp4": (anamorphic, "shown 640 x 360", {}),
    "v2-aac-ts-start-50000.ts": (clip, "3 s, picture and sound in step", {"seconds": 3}),
    "v2-aac-ts-pts-wrap.ts": (clip, "30 frames, 3 s", {"seconds": 3}),
    "v-mp2.ts": (clip, "with its sound", {"seconds": 3}),
    "v-two-video-front-rear.mp4": (clip, "both tracks hidden and written", {"seconds": 3}),
    "v4-ts-one-packet-lost.ts": (lost_sound, "done; the damaged sound said or concealed", {}),
    "v-h264-bframes.avi": (clip, "done, picture and sound in step", {"seconds": 3}),
    "avif-10bit-bt2100pq.avif": (coloured, "shown with the colours of the input", {}),
    "heic-8bit-displayp3-nclx.heic": (coloured, "shown with the colours of the input", {}),
    "stereo.MPO.jpg": (stereo, "the loss said; --in-place refuses it", {}),
    "ultrahdr-gainmap-and-motion-photo.jpg": (
        *(pointing, "gain map and clip gone, nothing points at them under keep"),
        {},
    ),
    "no-eoi.jpg": (photo, "done", {}),
    "scan_bomb.py": (bomb, "refused soon", {}),
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser that says how it shows photos and clips."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()

        def show(media_type: str, path: Path) -> Shown | None:
            address = f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
            try:
                shown: Shown | None = page.evaluate(
                    SHOW_CLIP if media_type.startswith("video/") else SHOW_PHOTO, address
                )
            except Error:  # it doesn't know the format
                return None
            return shown

        yield show
        browser.close()


def main() -> None:
    """Try each case, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=Path, required=True, help="folder of the inputs")
    parser.add_argument(
        "--only", nargs="*", choices=list(CASES), help="the others stay as they are"
    )
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text())["cases"] if given.only and RESULTS.exists() else []
    rows: dict[str, dict[str, Any]] = {row["file"]: row for row in known}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        bench = Bench(given.cases, Path(folder), OnnxDetector.shipped(), browser)
        for name in given.only or CASES:
            check, required, more = CASES[name]
            row = check(bench, name, required, **more)
            for shown in (row.before, row.after):
                if isinstance(seen := shown.get("browser"), dict):
                    seen.pop("levels", None)
            row.said = row.said.replace(str(folder), "OUT").replace(str(given.cases), "CASES")
            rows[name] = {what: getattr(row, what) for what in Row.__slots__ if what != "seconds"}
            failed = [what for what, holds in row.checks.items() if not holds]
            print(f"{name}: {'NOT ' + ', '.join(failed) if failed else 'as required'}", flush=True)
            figures = {"machine": machine(), "cases": [rows[one] for one in CASES if one in rows]}
            RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if any(not holds for row in rows.values() for holds in row["checks"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
