"""A long clip, killed twice and resumed: memory over time, what a kill costs, whether all is there.

Usage: python -m benchmarks.long_clip [--minutes 60 --rate 4 --seed 0 --folder DIR]

Twelve drawn streets of 1080p, each panned over for ten seconds, with exact labels, and a beep at
each cut. These two minutes are encoded once and repeated until the clip is as long as wanted.
`plateblur video` blurs it in a process of its own, is killed (SIGKILL) at two random moments, and
resumed. Then the output is checked against the labels, the times and the beeps. Figures go to
benchmarks/results/long_clip.json, unless `--minutes` is below 60: they are then only printed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine, tree_of
from plateblur.drawn import draw_scene
from plateblur.types import Boxes, Image
from plateblur.video.writing import SEGMENT_FRAMES

RESULTS = Path(__file__).parent / "results" / "long_clip.json"
SCENES, SCENE_S = 12, 10
LOOP_S = SCENES * SCENE_S
FRAME_HW, DRAWN_HW = (1080, 1920), (1296, 2304)
SOUND_RATE, SOUND_FRAME = 48_000, 1024  # 5,625 frames of AAC are two minutes
BEEP_S = 0.2
FEWEST_VISIBLE = 0.6  # of a plate that counts, as in ../shared/tools/moving.py, like the next two
SOLID_GREY, LEVELS = 64, 12
HIDDEN = 0.99  # of a plate's pixels
SAMPLES, SAMPLE_FRAMES = 60, 5  # places in the clip, and frames at each
WATCH_S = 0.5
LOOKING = 0.7  # of the work, for when a kill is due


@dataclass(frozen=True, slots=True)
class Drawn:
    """The two minutes that are repeated.

    Attributes:
        images: of each scene, larger than a frame.
        plates: (N, 4) of each scene, pixels of its image.
        rate: frames a second.
    """

    images: list[Image]
    plates: list[Boxes]
    rate: int

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return LOOP_S * self.rate

    def corner(self, frame: int) -> tuple[int, int]:
        """Return x and y of a frame's corner in its scene."""
        share = (frame % (SCENE_S * self.rate)) / (SCENE_S * self.rate)
        spare_y, spare_x = np.subtract(DRAWN_HW, FRAME_HW).tolist()
        swing = 0.5 + 0.5 * np.sin(4 * np.pi * share)
        return int(spare_x * share), int(spare_y * swing)

    def image(self, frame: int) -> Image:
        """Return a frame, (1080, 1920, 3)."""
        x, y = self.corner(frame)
        scene = self.images[frame // (SCENE_S * self.rate)]
        return scene[y : y + FRAME_HW[0], x : x + FRAME_HW[1]]

    def labels(self, frame: int) -> Boxes:
        """Return the plates that can be seen in a frame, (N, 4) pixels."""
        x, y = self.corner(frame)
        there = self.plates[frame // (SCENE_S * self.rate)] - np.array([x, y, x, y], np.float32)
        inside = there.clip(0, [FRAME_HW[1], FRAME_HW[0]] * 2)
        seen = _areas(inside) > FEWEST_VISIBLE * _areas(there)
        return np.asarray(inside[seen], np.float32)


def _areas(boxes: Boxes) -> NDArray[np.float32]:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def draw(rate: int, seed: int) -> Drawn:
    """Draw the scenes."""
    scenes = [
        draw_scene(100 * seed + n, image_hw=DRAWN_HW, plates=3, ratios=(1 / 30, 1 / 16))
        for n in range(SCENES)
    ]
    return Drawn([scene.image for scene in scenes], [scene.xyxy for scene in scenes], rate)


def write(path: Path, drawn: Drawn, *, loops: int) -> None:
    """Encode the two minutes, and write them so many times as one clip."""
    with av.open(str(path), "w") as target:
        picture: Any = target.add_stream(
            "libx264", rate=drawn.rate, options={"preset": "veryfast", "crf": "23", "bf": "0"}
        )
        picture.height, picture.width = FRAME_HW
        picture.pix_fmt = "yuv420p"
        picture.codec_context.time_base = Fraction(1, drawn.rate)
        sound: Any = target.add_stream("aac", rate=SOUND_RATE, layout="mono")
        pictures = [bytes(packet) for packet in _pictures(picture, drawn)]
        sounds = [bytes(packet) for packet in _sounds(sound)]
        keys = set(range(0, drawn.frames, SCENE_S * drawn.rate))
        for second in range(loops * LOOP_S):
            for number in range(second * drawn.rate, (second + 1) * drawn.rate):
                at = number % drawn.frames
                _mux(target, picture, pictures[at], number, Fraction(1, drawn.rate), at in keys)
            ends = (second + 1) * SOUND_RATE // SOUND_FRAME
            for number in range(second * SOUND_RATE // SOUND_FRAME, ends):
                data = sounds[number % len(sounds)]
                tick = Fraction(1, SOUND_RATE)
                _mux(target, sound, data, number * SOUND_FRAME, tick, is_key=True)


def _mux(target: Any, stream: Any, data: bytes, time_: int, base: Fraction, is_key: bool) -> None:
    packet = av.Packet(data)
    packet.pts = packet.dts = time_
    packet.time_base, packet.stream, packet.is_keyframe = base, stream, is_key
    target.mux(packet)


def _pictures(stream: Any, drawn: Drawn) -> Iterator[Any]:
    for number in range(drawn.frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(drawn.image(number)))
        frame.pts, frame.time_base = number, Fraction(1, drawn.rate)
        if number % (SCENE_S * drawn.rate) == 0:
            frame.pict_type = av.video.frame.PictureType.I
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _sounds(stream: Any) -> list[Any]:
    """Return the packets of a beep at each cut, without what primes the encoder."""
    times = np.arange(LOOP_S * SOUND_RATE) / SOUND_RATE
    tone = np.where(times % SCENE_S < BEEP_S, 0.8 * np.sin(2 * np.pi * 440 * times), 0)
    frame = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = SOUND_RATE
    packets = [*stream.encode(frame), *stream.encode(None)]
    return packets[1 : 1 + LOOP_S * SOUND_RATE // SOUND_FRAME]


@dataclass(slots=True)
class Watched:
    """One run of the command.

    Attributes:
        seconds: until it ended or was killed.
        processor_s: of the whole tree of processes.
        caught_up_s: until it did something new; 0 for the first run.
        done: frames searched and segments written when it ended.
        memory: seconds since the start and megabytes of the whole tree.
    """

    seconds: float
    processor_s: float
    caught_up_s: float
    done: tuple[int, int]
    memory: list[tuple[float, float]]


def watch(command: list[str], work: Path, frames: int, kill_at: float | None) -> Watched:
    """Run the command, and kill it when so much of the work is done; None lets it finish."""
    begun_s, before = time.monotonic(), _done(work)
    memory: list[tuple[float, float]] = []
    caught_up_s, processor_s, done = 0.0, 0.0, before
    with subprocess.Popen(command, start_new_session=True) as process:
        while process.poll() is None:
            time.sleep(WATCH_S)
            now_s = time.monotonic() - begun_s
            rss_mb, used_s = tree_of(process.pid)
            processor_s = max(processor_s, used_s)
            memory.append((round(now_s, 1), round(rss_mb)))
            done = _done(work) if work.exists() else done
            if not caught_up_s and done > before and before > (0, 0):
                caught_up_s = now_s
            if kill_at is not None and _share(work, done, frames) >= kill_at:
                os.killpg(process.pid, signal.SIGKILL)
                break
        code = process.wait()
    if kill_at is None and code != 0:
        raise SystemExit(f"the command ended with {code}")
    if kill_at is not None and code != -signal.SIGKILL:
        raise SystemExit(f"the command ended with {code} before it was to be killed")
    return Watched(time.monotonic() - begun_s, processor_s, caught_up_s, done, memory)


def _done(work: Path) -> tuple[int, int]:
    """Return how many frames are searched and how many segments written."""
    journal = work / "looked-0.jsonl"
    looked = journal.read_bytes().count(b"\n") if journal.exists() else 0
    return looked, len(list(work.glob("picture-*.mp4")))


def _share(work: Path, done: tuple[int, int], frames: int) -> float:
    """Return how much of the work is done; a segment counts as soon as it is begun."""
    looked, segments = done
    begun = segments + len(list(work.glob("picture-*.part")))
    return LOOKING * looked / frames + (1 - LOOKING) * begun * SEGMENT_FRAMES / frames


def checked(source: Path, out: Path, drawn: Drawn, seed: int) -> dict[str, Any]:
    """Return what is right and what is wrong with the output."""
    wanted, times = _times(source), _times(out)
    places = np.random.default_rng(seed).choice(len(wanted) - SAMPLE_FRAMES, SAMPLES, replace=False)
    starts = np.sort(places).tolist()
    plates = hidden = 0
    differences = []
    with av.open(str(out), "r") as clip:
        stream = clip.streams.video[0]
        stream.thread_type = "AUTO"
        for start in starts:
            for number, image in _frames_from(clip, stream, times, start):
                labels = drawn.labels(number % drawn.frames)
                shares = [_hidden_share(image, box) for box in labels]
                plates += len(shares)
                hidden += sum(share >= HIDDEN for share in shares)
                differences.append(_difference(image, drawn.image(number % drawn.frames)))
    beeps = _beeps(out)
    cuts = [float(times[n]) for n in range(0, len(times), SCENE_S * drawn.rate)]
    apart = np.abs(np.array(beeps) - cuts) if len(beeps) == len(cuts) else np.array([np.inf])
    return {
        "frames": len(wanted),
        "frames_out": len(times),
        "length_s": float(wanted[-1] - wanted[0]),
        "length_out_s": float(times[-1] - times[0]),
        "every_frame_at_its_time": times == [time_ - wanted[0] for time_ in wanted],
        "frames_looked_at": len(differences),
        "plates_in_them": plates,
        "plates_hidden": hidden,
        "worst_median_difference_levels": max(differences),
        "beeps": len(beeps),
        "sound_out_of_step_ms_most": round(float(apart.max()) * 1000),
    }


def _times(path: Path) -> list[Fraction]:
    with av.open(str(path), "r") as clip:
        return sorted(
            packet.pts * packet.time_base
            for packet in clip.demux(video=0)
            if packet.pts is not None and packet.time_base is not None
        )


def _frames_from(
    clip: Any, stream: Any, times: list[Fraction], start: int
) -> Iterator[tuple[int, Image]]:
    """Yield the number and the pixels of some frames from `start` on."""
    clip.seek(int(times[start] / stream.time_base), stream=stream)
    wanted = {times[number]: number for number in range(start, start + SAMPLE_FRAMES)}
    for frame in clip.decode(stream):
        number = wanted.get(frame.pts * frame.time_base)
        if number is not None:
            yield number, frame.to_ndarray(format="rgb24")
        if frame.pts * frame.time_base >= times[start + SAMPLE_FRAMES - 1]:
            return


def _hidden_share(image: Image, box: NDArray[np.float32]) -> float:
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    inside = image[y1:y2, x1:x2].astype(int)
    return float((np.abs(inside - SOLID_GREY).max(axis=2) <= LEVELS).mean())


def _difference(image: Image, drawn: Image) -> float:
    """Return the median difference, which the hidden plates don't touch; a wrong frame has more."""
    return float(np.median(np.abs(image[::8, ::8].astype(int) - drawn[::8, ::8])))


def _beeps(path: Path) -> list[float]:
    """Return when each beep sets in, seconds."""
    found: list[float] = []
    with av.open(str(path), "r") as clip:
        for frame in clip.decode(audio=0):
            loud = np.abs(frame.to_ndarray()[0]) > 0.2
            if loud.any():
                now_s = float(frame.time or 0) + int(loud.argmax()) / frame.sample_rate
                if not found or now_s - found[-1] > SCENE_S / 2:
                    found.append(now_s)
    return found


def main() -> None:
    """Draw, blur with two kills, check, and say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="an even number")
    parser.add_argument("--rate", type=int, default=4, help="frames a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="onnxruntime", help="as of the command")
    parser.add_argument("--folder", type=Path, default=None, help="for the clips; else temporary")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="long-clip-"))
    folder.mkdir(parents=True, exist_ok=True)
    source, out, work = folder / "long.mp4", folder / "out.mp4", folder / ".out.mp4.work"
    begun_s = time.monotonic()
    drawn = draw(given.rate, given.seed)
    write(source, drawn, loops=max(1, given.minutes * 60 // LOOP_S))
    drawn_s = time.monotonic() - begun_s
    frames = len(_times(source))
    rng = np.random.default_rng(given.seed)
    kills = [rng.uniform(0.1, 0.6), rng.uniform(LOOKING + 0.02, 0.9)]
    plateblur = str(Path(sys.executable).with_name("plateblur"))
    command = [plateblur, "video", str(source), "-o", str(out), "--method", "solid", "--overwrite"]
    command += ["--engine", given.engine]
    runs = [
        watch([*command, *(["--resume"] if number else [])], work, frames, kill_at)
        for number, kill_at in enumerate([*kills, None])
    ]
    seconds = sum(run.seconds for run in runs)
    figures: dict[str, Any] = {
        "machine": machine(),
        "clip": f"{given.minutes} minutes of 1080p at {given.rate} frames a second, H.264 and AAC: "
        f"{LOOP_S} s of drawn streets, repeated",
        "engine": given.engine,
        "drawn_in_s": round(drawn_s),
        "blurred_in_s": round(seconds),
        "frames_a_second": round(frames / seconds, 1),
        "cores_busy": round(sum(run.processor_s for run in runs) / seconds, 2),
        "killed_after": [
            {"seconds": round(run.seconds), "frames_searched": run.done[0], "segments": run.done[1]}
            for run in runs[:-1]
        ],
        "seconds_until_new_work_after_a_kill": [round(run.caught_up_s, 1) for run in runs[1:]],
        "memory_mb_most": max(mb for run in runs for _, mb in run.memory),
        "memory_mb_over_time": [
            {"run": number, "at_s": at_s, "mb": mb}
            for number, run in enumerate(runs, start=1)
            for at_s, mb in run.memory[:: max(1, len(run.memory) // 12)]
        ],
        "left_behind": sorted(path.name for path in folder.iterdir() if path not in (source, out)),
    }
    print(json.dumps(figures, indent=1), flush=True)
    figures["output"] = checked(source, out, drawn, given.seed)
    written = json.dumps(figures, indent=1)
    print(json.dumps(figures["output"], indent=1))
    if given.minutes >= 60:
        RESULTS.write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
