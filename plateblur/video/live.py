"""Blur plates while the pictures come: the output follows the source by a fixed delay.

A `Feed` reads the source and searches its frames in threads of its own, a `Sender` encodes and
sends in another. The caller's thread takes the frames whose time has come and hides what was found.
A frame that wasn't searched by then is never sent as it came: it is blanked or dropped, and
counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import av
import numpy as np

from plateblur.errors import EncodeError
from plateblur.pipeline import DEFAULTS
from plateblur.types import BlurOptions, Detector
from plateblur.video.colour import Planes, blank_planes, hidden_planes
from plateblur.video.feed import BackOff, Feed, Say
from plateblur.video.looking import WORKERS
from plateblur.video.picture import Picture
from plateblur.video.sinks import Sender, Sending, Sink
from plateblur.video.sources import Source
from plateblur.video.types import LIVE_AS_USUAL, Counts, LiveOptions
from plateblur.video.window import Due

ROUND_S = 0.1  # frames are sent so often; the tracker looks ahead once for all that are due
PRESENCE_S = 1.0  # while the source is away, a blank frame as often tells the server we are here

Tell = Callable[[Counts], None]


def blur_live(
    source: Source,
    sink: Sink,
    detector: Detector,
    options: BlurOptions = DEFAULTS,
    how: LiveOptions = LIVE_AS_USUAL,
    *,
    stop: threading.Event | None = None,
    say: Say = lambda _: None,
    tell: Tell = lambda _: None,
) -> Counts:
    """Send `source` to `sink` with its plates unreadable, until it ends or `stop` is set.

    Args:
        source: where pictures and sound come from.
        sink: where they go.
        detector: what finds the plates.
        options: method, margin, confidence, effort and smallest plate count.
        how: the delay, and what becomes of late frames.
        stop: ends the work when it is set; a file is then closed properly.
        say: called with a sentence when something happens, from any thread.
        tell: called with the counts after each round of frames.

    Returns:
        What became of the frames.

    Raises:
        VideoError: the source can't be taken, or stayed away for too long.
        EncodeError: the sink can't be written to, or stayed away for too long.
        DetectionError: the detector failed.
    """
    feed = Feed(source, options, how, stop or threading.Event(), say)
    reading = threading.Thread(target=feed.run, daemon=True)
    searching = [
        threading.Thread(target=feed.search, args=(detector,), daemon=True) for _ in range(WORKERS)
    ]
    for thread in (reading, *searching):
        thread.start()
    try:
        if (picture := feed.first_picture()) is not None:
            _send(feed, picture, sink, options, how, say, tell)
    finally:
        feed.close()
        for thread in searching:
            thread.join()
        reading.join(timeout=1.0)  # one that waits for a silent source ends when that is lost
    if feed.failure is not None:
        raise feed.failure
    return feed.counts


def _send(
    feed: Feed,
    picture: Picture,
    sink: Sink,
    options: BlurOptions,
    how: LiveOptions,
    say: Say,
    tell: Tell,
) -> None:
    """Send what comes, round for round, until there is no more."""
    out = _Out(sink, feed, picture, how, say)
    blank = blank_planes(picture.written_hw, picture.colours)
    is_over = False
    while not is_over:
        time.sleep(ROUND_S)
        is_over = feed.has_ended and not feed.window.waiting and not feed.has_more_sound
        until_s = time.monotonic() - how.delay_s
        due = feed.window.due(until_s)
        feed.counts.plates = feed.window.plates
        for each in due:
            planes = _hidden(each, picture, options)
            if planes is not None:
                out.show(planes, each.time_s, is_blank=False)
                continue
            feed.counts.late += each.frame is not None
            feed.counts.damaged += each.frame is None
            if how.late == "blank":
                out.show(blank, each.time_s, is_blank=True)
        if feed.is_away and until_s - out.last_s >= PRESENCE_S:
            out.show(blank, until_s, is_blank=True)
        for sound, time_s in feed.sound_until(time.monotonic() if is_over else until_s):
            out.hear(sound, time_s)
        tell(feed.counts)
    out.finish()


def _hidden(due: Due, picture: Picture, options: BlurOptions) -> Planes | None:
    """Return a frame with its plates hidden; None if it wasn't searched, or can't be decoded."""
    if due.frame is None or due.boxes is None:
        return None
    # From the un-squeezed frames that were searched to the stored ones.
    scale = np.tile(np.array(picture.upright_hw[::-1]) / picture.image_hw[::-1], 2)
    boxes = (due.boxes * scale).astype(np.float32)
    return hidden_planes(picture.planes(due.frame), boxes, picture.colours, options)


class _Out:
    """The sink, opened again when a server is lost."""

    def __init__(
        self, sink: Sink, feed: Feed, picture: Picture, how: LiveOptions, say: Say
    ) -> None:
        self.last_s = 0.0
        self._sink, self._feed, self._picture, self._how, self._say = sink, feed, picture, how, say
        self._back_off = BackOff(how.retry_s)
        self._try_s = 0.0
        self._sender: Sender | None = None

    def show(self, planes: Planes, time_s: float, *, is_blank: bool) -> None:
        """Send a frame if the sink is there and quick enough.

        Raises:
            EncodeError: it is lost for good.
        """
        counts = self._feed.counts

        def act(sending: Sending) -> None:
            sending.show(planes, time_s)
            counts.shown += not is_blank
            self._back_off.reset()

        self.last_s = time_s
        if not self._put(act):
            counts.unsent += not is_blank

    def hear(self, sound: av.AudioFrame, time_s: float) -> None:
        """Send sound, like `show`."""
        self._put(lambda sending: sending.hear(sound, time_s))

    def finish(self) -> None:
        """Send what waits, and close the sink.

        Raises:
            EncodeError: it is lost.
        """
        if self._sender is not None:
            self._sender.finish()

    def _put(self, act: Callable[[Sending], None]) -> bool:
        if self._sender is None:
            if time.monotonic() < self._try_s:
                return False
            self._sender = Sender(self._sink, self._picture, self._feed.sound, self._how.quality)
        try:
            return self._sender.put(act)
        except EncodeError as error:
            self._lost(error)
            return False

    def _lost(self, error: EncodeError) -> None:
        """Go on without the server until the next try.

        Raises:
            EncodeError: it is a file, or it stayed away for too long.
        """
        self._sender = None
        if not self._sink.is_remote or self._back_off.is_over:
            raise error
        waits_s = self._back_off.next_s()
        self._feed.counts.sink_lost += 1
        self._say(f"No sink: {error}. Trying again in {waits_s:g} s.")
        self._try_s = time.monotonic() + waits_s
