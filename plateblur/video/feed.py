"""Read a live source into a window of frames, and search them there."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from plateblur.errors import DetectionError, PlateblurError, VideoError
from plateblur.tracks import STILL, TRACK_FLOOR, Step
from plateblur.types import BlurOptions, Detector
from plateblur.video.colour import colours_of, lost_of
from plateblur.video.looking import Grey, camera_step, look_closer
from plateblur.video.picture import FALLBACK_RATE, Picture
from plateblur.video.reading import require_size
from plateblur.video.sources import Live, Sound, Source
from plateblur.video.types import LIMITS, Counts, LiveOptions
from plateblur.video.upright import upright_of
from plateblur.video.window import LiveFrame, Window

AHEAD_S = 0.2  # a file is read so far ahead of its own speed
SOUND_AHEAD_S = (
    10.0  # the same for sound, which may be stored far ahead of its picture, or after it
)
BURST_S = 1.0  # a stream that comes this far ahead of its own speed had been held up
JUMP_S = 10.0  # a clock that steps further is another clock
BACK_OFF_S = (1.0, 30.0)  # before the first new try, and at most; doubled each time
LOOK_S = 0.1  # how often a thread that waits looks whether it is to end
SOUND_FRAMES = 2000  # that may wait; some 40 s
BARS = "gray"  # beside frames of another shape
TIME_BASE = Fraction(1, 90_000)  # Source: RFC 3551, 5: the clock of video over RTP

Say = Callable[[str], None]


class BackOff:
    """When to try again for a source or a server that is lost, and when to give up."""

    def __init__(self, longest_s: float) -> None:
        """Begin as if it had been there just now.

        Args:
            longest_s: it may stay away for so long.
        """
        self._longest_s = longest_s
        self.reset()

    def reset(self) -> None:
        """Note that it is there."""
        self._there_s, self._waits_s = time.monotonic(), BACK_OFF_S[0]

    @property
    def is_over(self) -> bool:
        """Whether it stayed away for too long."""
        return time.monotonic() - self._there_s >= self._longest_s

    def next_s(self) -> float:
        """Return how long to wait before the next try, seconds; each time twice as long."""
        waits_s = self._waits_s
        self._waits_s = min(2 * waits_s, BACK_OFF_S[1])
        return waits_s


class Feed:
    """A source that is read in one thread, and searched in others.

    Attributes:
        counts: what became of the frames.
        failure: why it ended, where that is an error.
        is_over: set when no more frames come.
        is_away: whether the source is lost at the moment.
        sound: what it sounds like; None without sound. Known with the first picture.
    """

    def __init__(
        self,
        source: Source,
        options: BlurOptions,
        how: LiveOptions,
        stop: threading.Event,
        say: Say,
    ) -> None:
        """Begin without reading; see `blur_live` for what is given."""
        self.counts = Counts()
        self.failure: PlateblurError | None = None
        self.is_over = threading.Event()
        self.is_away = False
        self.sound: Sound | None = None
        self._source, self._options, self._how, self._say = source, options, how, say
        self._stop = stop
        self._begun = threading.Event()
        self._picture: Picture | None = None
        self._window: Window | None = None
        self._heard: deque[tuple[av.AudioFrame, float]] = deque(maxlen=SOUND_FRAMES)
        self._last_s = 0.0
        self._came_wh: tuple[int, int] | None = None
        self._fitter: _Fitter | None = None

    @property
    def window(self) -> Window:
        """Where frames wait; not before `first_picture`."""
        if self._window is None:
            raise ValueError("there is no picture yet")
        return self._window

    @property
    def has_ended(self) -> bool:
        """Whether no more frames are wanted or come."""
        return self.is_over.is_set() or self._stop.is_set()

    @property
    def has_more_sound(self) -> bool:
        """Whether sound waits that goes on after the last picture; none does when `stop` is set."""
        return bool(self._heard) and self.sound is not None and not self._stop.is_set()

    def first_picture(self) -> Picture | None:
        """Return what the frames are, when the first has come; None if none does."""
        while not self._begun.wait(LOOK_S):
            if self._stop.is_set():
                break
        return self._picture

    def sound_until(self, time_s: float) -> Iterator[tuple[av.AudioFrame, float]]:
        """Yield the sound that was taken up to `time_s`; it leaves."""
        while self._heard and self._heard[0][1] <= time_s:
            yield self._heard.popleft()

    def close(self) -> None:
        """Let all threads end."""
        self._stop.set()
        if self._window is not None:
            self._window.close()

    def run(self) -> None:
        """Read until the source ends, it stays away for too long, or `stop` is set."""
        failure: PlateblurError | None = VideoError("the source can't be read")  # if a bug ends it
        try:
            self._read_again_and_again()
            failure = None
        except PlateblurError as error:
            failure = error
        finally:
            if not self._stop.is_set():
                self.failure = failure
            self.is_over.set()
            self._begun.set()

    def _read_again_and_again(self) -> None:
        back_off = BackOff(self._how.retry_s)
        while not self._stop.is_set():
            before = self.counts.read
            try:
                with self._source.connected() as live:
                    self._read(live)
                    if live.ends or self._stop.is_set():
                        return
                    raise VideoError(f"{self._source.shown} has ended")
            except UnfitError:
                raise
            except VideoError as error:
                if self.counts.read > before:
                    back_off.reset()
                    self.counts.source_lost += 1
                if back_off.is_over or self._source.kind == "file" or self._stop.is_set():
                    raise
                self.is_away = True
                waits_s = back_off.next_s()
                self._say(f"No source: {error}. Trying again in {waits_s:g} s.")
                self._stop.wait(waits_s)

    def _read(self, live: Live) -> None:
        clock = _Clock(is_paced=self._source.is_paced)
        before: Grey | None = None
        for frame in live.frames():
            if self._stop.is_set():
                return
            if isinstance(frame, av.AudioFrame):
                self._hear(frame, clock)
                heard_s = clock.sound_at(frame)
                if heard_s is not None and self._stops_before(heard_s - SOUND_AHEAD_S, clock):
                    return
                continue
            if frame is None:
                self._add(None, time.monotonic(), STILL)
                continue
            picture = self._picture or self._begin(frame, live)
            time_s = clock.time_of(frame)
            if clock.caught_up:
                self.counts.crowded += self.window.forget_after(time_s)
                before = None
            if self._stops_before(time_s - AHEAD_S, clock):
                return
            if self._is_left_out(time_s):
                continue
            _require_alike(frame, live, picture)
            fitting = self._fitting(frame, picture)
            grey = picture.grey(fitting)
            if self._add(fitting, time_s, self._step(before, grey)):
                before = grey

    def _stops_before(self, time_s: float, clock: _Clock) -> bool:
        """Wait until then, if the source comes as fast as it is read; return whether it ends."""
        while clock.is_paced and (early_s := time_s - time.monotonic()) > 0:
            if self._stop.wait(early_s):
                return True
        return False

    def _begin(self, frame: av.VideoFrame, live: Live) -> Picture:
        """Say what the source is like, from its first frame."""
        picture = _picture_of(frame, live)
        if self._how.rate is not None:
            rate = Fraction(self._how.rate).limit_denominator(1000)
            picture = replace(picture, rate=min(picture.rate, rate))
        self.sound = live.sound if self._how.sound == "keep" else None
        height, width = picture.upright_hw
        self._window = Window(
            min_confidence=self._options.min_confidence, frame_bytes=height * width * 3 // 2
        )
        for note in (*live.notes, *picture.lost):
            self._say(note)
        self._picture, self._came_wh = picture, picture.stored_wh
        self._begun.set()
        if self._stop.is_set():  # and nobody saw the window
            self._window.close()
        return picture

    def _add(self, frame: av.VideoFrame | None, time_s: float, step: Step) -> bool:
        if self._window is None:
            return False
        self.is_away = False
        self.counts.read += 1
        self._last_s = time_s
        is_added = self._window.add(LiveFrame(frame, time_s, step))
        self.counts.crowded += not is_added
        return is_added

    def _fitting(self, frame: av.VideoFrame, picture: Picture) -> av.VideoFrame:
        """Return `frame` in the size of the first one, which can't change in most outputs.

        It keeps its shape, with bars beside it: plates that are squeezed are missed.
        """
        came_wh, wanted_wh = (frame.width, frame.height), picture.stored_wh
        if came_wh != self._came_wh:
            self._came_wh = came_wh
            if came_wh != wanted_wh:
                came, wanted = ("{} x {}".format(*wh) for wh in (came_wh, wanted_wh))
                self._say(f"The source now sends {came}; it is scaled to {wanted}.")
        if came_wh == wanted_wh:
            return frame
        if self._fitter is None or self._fitter.came_wh != came_wh:
            self._fitter = _Fitter(frame, wanted_wh)
        return self._fitter.fitted(frame)

    def _is_left_out(self, time_s: float) -> bool:
        rate = self._how.rate
        # A tenth early is in time, or 29.97 of 30 a second would become 15.
        return rate is not None and self._last_s > 0 and time_s - self._last_s < 0.9 / rate

    def _hear(self, frame: av.AudioFrame, clock: _Clock) -> None:
        time_s = clock.sound_at(frame)
        if self.sound is not None and time_s is not None:
            self._heard.append((frame, time_s))

    def _step(self, before: Grey | None, now: Grey) -> Step:
        """Return how the camera moved, in pixels of the frames as shown."""
        if before is None or self._picture is None:
            return STILL
        scale = self._picture.image_hw[1] / now.shape[1]
        return np.asarray(camera_step(before, now) * [1, 1, scale, scale], np.float64)

    def search(self, detector: Detector) -> None:
        """Search the frames that wait, until `close`."""
        picture = self.first_picture()
        if picture is None:
            return
        options = self._options
        floor = min(TRACK_FLOOR, options.min_confidence)
        failure: PlateblurError | None = DetectionError("a frame can't be searched")
        try:
            while (work := self.window.next_to_search()) is not None:
                waiting, places = work
                with waiting.converting:
                    image = None if waiting.frame is None else picture.image(waiting.frame)
                if image is None:
                    continue
                found = (
                    look_closer(image, places.astype(np.float64), detector, floor=floor)
                    if places is not None
                    else detector.detect(
                        image,
                        min_confidence=floor,
                        smallest_plate_px=options.smallest_plate_px,
                        effort=options.effort,
                    )
                )
                self.window.searched(waiting, found)
            failure = None
        except DetectionError as error:
            failure = error
        finally:
            if failure is not None:
                self.failure = failure
                self._stop.set()


class UnfitError(VideoError):
    """The source is there, but it can't be taken; trying again doesn't help."""


def _picture_of(frame: av.VideoFrame, live: Live) -> Picture:
    try:
        picture = Picture(
            index=0,
            stored_wh=(frame.width, frame.height),
            upright=upright_of(frame, live.pixel_aspect),
            colours=(colours := colours_of(frame)),
            time_base=TIME_BASE,
            rate=live.rate or FALLBACK_RATE,
            lost=lost_of(frame, colours, has_alpha=live.has_alpha),
        )
        if picture.colours.deep:  # RTMP and most players of live streams take none
            raise VideoError("HDR isn't supported for live pictures; set the source to SDR")
        height, width = picture.image_hw
        require_size(height * width, LIMITS)
    except VideoError as error:
        raise UnfitError(str(error)) from error
    return picture


def _require_alike(frame: av.VideoFrame, live: Live, picture: Picture) -> None:
    """Raise `UnfitError` where a frame isn't shown like those before it.

    It would be searched and sent turned or stretched, and its plates missed.
    """
    try:
        is_alike = upright_of(frame, live.pixel_aspect) == picture.upright
    except VideoError as error:
        raise UnfitError(str(error)) from error
    if not is_alike or frame.color_trc != picture.colours.curve:
        raise UnfitError(
            "the source now sends frames that are rotated, stretched or coloured differently; "
            "start again"
        )


class _Fitter:
    """Scales frames of one size to fit into another, with bars beside them."""

    def __init__(self, frame: av.VideoFrame, wanted_wh: tuple[int, int]) -> None:
        """Prepare for frames like `frame`."""
        self.came_wh = (frame.width, frame.height)
        width, height = wanted_wh
        self._graph = av.filter.Graph()
        steps = [
            self._graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=TIME_BASE,
            ),
            self._graph.add("scale", f"{width}:{height}:force_original_aspect_ratio=decrease"),
            self._graph.add("pad", f"{width}:{height}:-1:-1:color={BARS}"),
            self._graph.add("buffersink"),
        ]
        for step, following in itertools.pairwise(steps):
            step.link_to(following)
        self._graph.configure()

    def fitted(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return `frame` in the wanted size."""
        self._graph.vpush(frame)
        return self._graph.vpull()


class _Clock:
    """When each frame of a source was taken, by this machine's clock.

    The first one when it came, the others as much later as the source says. When one comes later
    than that, all that follow are moved with it, so that each has the whole delay to be searched.
    """

    def __init__(self, *, is_paced: bool) -> None:
        self.is_paced = is_paced
        self.caught_up = False
        self._offset_s: float | None = None

    def time_of(self, frame: av.VideoFrame) -> float:
        """Return when a frame was taken, seconds."""
        now_s = time.monotonic()
        if frame.pts is None or frame.time_base is None:
            return now_s
        source_s = float(frame.pts * frame.time_base)
        if self._offset_s is None:
            self._offset_s = now_s - source_s
        early_s = source_s + self._offset_s - now_s
        self.caught_up = early_s > (JUMP_S if self.is_paced else BURST_S)
        if early_s < 0 or self.caught_up:
            self._offset_s -= early_s
        return source_s + self._offset_s

    def sound_at(self, frame: av.AudioFrame) -> float | None:
        """Return when sound was taken; None before the first frame."""
        if self._offset_s is None or frame.pts is None or frame.time_base is None:
            return None
        return float(frame.pts * frame.time_base) + self._offset_s
