"""The command `live`: pictures in while they come, blurred pictures out."""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plateblur.cli_options import (
    DeviceOption,
    EngineOption,
    Fast,
    Margin,
    MethodOption,
    MinConfidence,
    ModelOption,
    Quiet,
    SmallestPlate,
    effort_of,
    finite,
)
from plateblur.cli_runs import console, ending_on_bad_start, open_detector, say
from plateblur.errors import PlateblurError
from plateblur.pipeline import DEFAULTS
from plateblur.runs.files import Outputs, explain
from plateblur.types import BlurOptions

if TYPE_CHECKING:
    from plateblur.video import Counts, Sink, Source

SHOWN_EVERY_S = 10.0
EXAMPLES = """
Examples: plateblur live rtsp://user:password@camera/stream -o rtmp://server/live/key

plateblur live camera:0 -o street.mp4 --delay 1

plateblur live http://camera/video.mjpg -o www/street.m3u8 --sound drop

Exit codes: 0 the source has ended, or Ctrl-C; 1 the source or the output was lost; 2 the command
could not start.
"""


def live(
    source: Annotated[
        str,
        typer.Argument(
            help="camera:0 for the first camera, a URL (rtsp, rtmp, http), or a clip, which is "
            "played at its own speed."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="A URL (rtmp, rtsp), an HLS playlist (.m3u8), or a file: .mp4, .mov, .mkv or .ts.",
        ),
    ],
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    delay: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=10.0,
            callback=finite,
            help="Seconds by which the output follows the source. A longer delay leaves more time "
            "to search each frame, and hides plates earlier that are found late.",
        ),
    ] = 0.5,
    late: Annotated[
        Literal["blank", "drop"],
        typer.Option(
            help="What to do with frames that were not searched in time: show a grey frame, or "
            "leave them out."
        ),
    ] = "blank",
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000.0,
            help="Use at most this many frames per second, if the machine can't search them all.",
        ),
    ] = None,
    sound: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="Keep or drop the sound. Voices are personal data too."),
    ] = "keep",
    quality: Annotated[
        Literal["high", "normal", "small"], typer.Option(help="Picture quality.")
    ] = "normal",
    retry_for: Annotated[
        float,
        typer.Option(
            min=0.0,
            callback=finite,
            help="Seconds to keep retrying a lost source or server before the command "
            "ends. 0 ends it immediately.",
        ),
    ] = 300.0,
    fast: Fast = False,
    smallest_plate_px: SmallestPlate = DEFAULTS.smallest_plate_px,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file or playlist.")
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object at the end.")
    ] = False,
) -> None:
    """Blur the plates in live video.

    A frame that was not searched in time is never shown as it came. Press Ctrl-C to stop; the
    output is then closed properly. Passwords and stream keys in URLs are not shown or logged.
    """
    from plateblur.video import LiveOptions, blur_live

    taken, given = _ends(source, out, overwrite=overwrite)
    options = BlurOptions(
        method=method,
        margin=margin,
        min_confidence=min_confidence,
        smallest_plate_px=smallest_plate_px,
        effort=effort_of(fast=fast, thorough=False),
    )
    how = LiveOptions(
        delay_s=delay, late=late, sound=sound, quality=quality, rate=rate, retry_s=retry_for
    )
    with ending_on_bad_start():
        detector = open_detector(engine, device, model=model)
    stop = threading.Event()
    _stop_on_signals(stop)
    progress = _Told(hidden=quiet)
    failure: PlateblurError | None = None
    try:
        blur_live(
            taken, given, detector, options, how, stop=stop,
            say=lambda line: say([line], hidden=quiet), tell=progress,
        )  # fmt: skip
    except PlateblurError as error:
        failure = error
    if failure is not None:
        console.print(f"plateblur: {failure}", style="red", markup=False, soft_wrap=True)
    progress.finish(given)
    if as_json:
        typer.echo(json.dumps(asdict(progress.counts)))
    if failure is not None:
        raise typer.Exit(1)


def _ends(source: str, out: str, *, overwrite: bool) -> tuple[Source, Sink]:
    """Return both ends, or end the command with the reason."""
    from plateblur.video import sink_of, source_of

    try:
        taken, given = source_of(source), sink_of(out)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if taken.kind == "file" and not Path(source).is_file():
        raise typer.BadParameter(f"{source} does not exist")
    if not given.is_remote:
        inputs = [Path(source)] if taken.kind == "file" else []
        try:
            Outputs(inputs, overwrite=overwrite).check(Path(out))
        except (OSError, PlateblurError) as error:
            raise typer.BadParameter(explain(error)) from error
    return taken, given


def _stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` on the first Ctrl-C or SIGTERM; a second one ends the command at once."""

    def handle(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


class _Told:
    """Says now and then what became of the frames, and at the end."""

    def __init__(self, *, hidden: bool) -> None:
        from plateblur.video import Counts

        self.counts = Counts()
        self._hidden = hidden
        self._begun_s = self._shown_s = time.monotonic()

    def __call__(self, counts: Counts) -> None:
        self.counts = counts
        if time.monotonic() - self._shown_s >= SHOWN_EVERY_S:
            self._shown_s = time.monotonic()
            say([self._line()], hidden=self._hidden)

    def finish(self, sink: Sink) -> None:
        say([f"{self._line()} -> {sink.shown}"], hidden=self._hidden)

    def _line(self) -> str:
        counts = self.counts
        minutes, seconds = divmod(round(time.monotonic() - self._begun_s), 60)
        plates = "1 plate" if counts.plates == 1 else f"{counts.plates} plates"
        losses = {
            "not searched in time": counts.late,
            "damaged": counts.damaged,
            "dropped because too many waited": counts.crowded,
            "not sent": counts.unsent,
        }
        lost = [f"{count} {what}" for what, count in losses.items() if count]
        return ", ".join(
            [f"{minutes}:{seconds:02} {plates} hidden in {counts.shown} frames", *lost]
        )
