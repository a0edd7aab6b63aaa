"""The window of live frames: what is hidden in each frame, and which frames are dropped."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
import pytest

from plateblur.tracks import STILL, TRACK_FLOOR, Frames, hidden_boxes
from plateblur.types import Boxes, Detections
from plateblur.video import window as module
from plateblur.video.window import REMEMBERED_S, Due, LiveFrame, Window
from tests.test_tracks import RATE, at, covers, seen

FRAME = av.VideoFrame(16, 16, "yuv420p")
SURE = 0.45


def opened() -> Window:
    return Window(min_confidence=SURE, frame_bytes=384)


def filled(found: Sequence[Detections | None]) -> Window:
    """Return a window in which frames wait, those that are None not searched."""
    window = opened()
    for number, detections in enumerate(found):
        frame = LiveFrame(FRAME, number / RATE, STILL, is_begun=detections is not None)
        assert window.add(frame)
        if detections is not None:
            window.searched(frame, detections)
    return window


def sent(found: Sequence[Detections | None], *, ahead: int) -> list[Due]:
    """Return all frames as they leave a window that knows `ahead` frames after each."""
    window, due = opened(), []
    for number, detections in enumerate(found):
        frame = LiveFrame(FRAME, number / RATE, STILL)
        window.add(frame)
        if detections is not None:
            window.searched(frame, detections)
        due += window.due((number - ahead) / RATE)
    return due + window.due(len(found))


def distinct(boxes: Boxes) -> Boxes:
    return np.unique(boxes.round(2), axis=0)


@pytest.mark.slow
def test_with_enough_delay_the_same_is_hidden_as_in_a_clip() -> None:
    missed, unsure = {3, 4, 5, 30, 31, 47}, {10, 11, 60, 61, 62}
    found = [
        seen()
        if frame in missed or not 2 <= frame < 90
        else seen(at(frame, 0.2 if frame in unsure else 0.9))
        for frame in range(120)
    ]
    clip = Frames(found, [frame / RATE for frame in range(len(found))], [STILL] * len(found))
    expected, tracks = hidden_boxes(clip, min_confidence=SURE)

    due = sent(found, ahead=30)

    assert len(tracks) == 1
    assert len(due) == len(expected)
    for each, boxes in zip(due, expected, strict=True):
        assert each.boxes is not None
        np.testing.assert_allclose(distinct(each.boxes), distinct(boxes), atol=0.01)


def test_a_plate_that_is_found_late_is_hidden_in_the_frames_before() -> None:
    due = sent([seen(), seen(), seen(), seen(at(3)), seen(at(4))], ahead=4)

    assert all(each.boxes is not None and covers(each.boxes, at(n)) for n, each in enumerate(due))


def test_without_a_delay_a_plate_is_carried_on_but_not_back() -> None:
    due = sent([seen(), seen(at(1)), seen(at(2)), seen(), seen()], ahead=0)

    hidden = [each.boxes is not None and covers(each.boxes, at(n)) for n, each in enumerate(due)]
    assert hidden == [False, True, True, True, True]


@pytest.mark.slow
def test_a_plate_that_was_sure_long_ago_stays_hidden_while_it_is_seen_unsurely() -> None:
    weak = TRACK_FLOOR + 0.05
    found = [seen(at(frame, 0.9 if frame < 3 else weak, speed=1)) for frame in range(100)]

    due = sent(found, ahead=5)

    assert len(due) / RATE > 3 * REMEMBERED_S
    assert all(
        each.boxes is not None and covers(each.boxes, at(frame, speed=1))
        for frame, each in enumerate(due)
    )


def test_unsure_detections_alone_hide_nothing() -> None:
    due = sent([seen(at(frame, 0.3)) for frame in range(20)], ahead=5)

    assert [len(each.boxes) for each in due if each.boxes is not None] == [0] * 20


def test_a_frame_that_was_not_searched_leaves_without_boxes() -> None:
    due = sent([seen(at(0)), None, seen(at(2)), None], ahead=2)

    assert [each.boxes is None for each in due] == [False, True, False, True]


def test_a_frame_that_is_searched_too_late_stays_unshown() -> None:
    window = filled([None])
    work = window.next_to_search()
    assert work is not None
    frame, _ = work

    due = window.due(1)
    window.searched(frame, seen(at(0)))

    assert [each.boxes for each in due] == [None]
    assert window.due(2) == []


def test_the_newest_frame_is_searched_first_and_each_once() -> None:
    window = filled([None, None, None])

    order = [window.next_to_search() for _ in range(3)]

    assert [(work[0].time_s, work[1]) for work in order if work] == [
        (0.2, None),
        (0.1, None),
        (0.0, None),
    ]


def test_a_frame_is_looked_at_closely_where_a_plate_should_be_when_all_are_searched() -> None:
    window = filled([seen(at(0)), seen(at(1)), seen(at(2)), seen(), seen(at(4)), None])
    window.due(0.0)

    newest = window.next_to_search()
    again = window.next_to_search()

    assert newest is not None
    assert newest[1] is None
    assert again is not None
    frame, places = again
    assert frame.time_s == pytest.approx(3 / RATE)
    assert places is not None
    np.testing.assert_allclose(places, [at(3)[:4]], atol=1)


def test_a_place_is_looked_at_once_and_what_is_found_there_is_hidden() -> None:
    window = filled([seen(at(0)), seen(at(1)), seen(at(2)), seen(), seen(at(4))])
    window.due(0.0)
    work = window.next_to_search()
    assert work is not None
    left, top, right, bottom, _ = at(3)
    slower = (left - 9, top, right - 9, bottom, 0.2)
    window.searched(work[0], seen(slower))

    window.due(1 / RATE)
    due = window.due(1)
    window.add(LiveFrame(FRAME, 1.0, STILL))
    work = window.next_to_search()

    assert due[1].boxes is not None
    assert covers(due[1].boxes, slower)
    assert work is not None
    assert work[0].time_s == 1.0


def test_a_frame_that_left_is_not_looked_at_again() -> None:
    window = filled([seen(at(0)), seen(at(1)), seen(), seen(at(3))])
    window.due(0.0)
    window.due(2 / RATE)
    window.add(LiveFrame(FRAME, 1.0, STILL))

    work = window.next_to_search()

    assert work is not None
    assert work[0].time_s == 1.0


def test_a_window_without_room_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 3 * 384)
    window = opened()

    taken = [window.add(LiveFrame(FRAME, number / RATE, STILL)) for number in range(5)]
    window.due(0.0)

    assert taken == [True, True, True, False, False]
    assert window.add(LiveFrame(FRAME, 1.0, STILL))


def test_frames_that_leave_let_go_of_their_pixels_and_are_forgotten_later() -> None:
    window = filled([seen()] * 100)

    window.due(9.0)

    assert window.waiting == 9
    assert len(window._frames) <= REMEMBERED_S * RATE + 10
    assert all(each.frame is None for each in window._frames[: -window.waiting])


def test_times_that_do_not_rise_are_moved_on() -> None:
    window = opened()
    for time_s in (1.0, 1.0, 0.2, 1.1):
        frame = LiveFrame(FRAME, time_s, STILL)
        window.add(frame)
        window.searched(frame, seen())

    due = window.due(2)

    assert [each.time_s for each in due] == pytest.approx([1.0, 1.001, 1.002, 1.1])


def test_frames_are_dropped_to_catch_up_but_not_those_that_left() -> None:
    window = filled([seen()] * 5)
    window.due(0.1)

    assert window.forget_after(0.0) == 3
    assert window.waiting == 0


def test_who_waits_for_a_frame_is_let_go_at_the_end() -> None:
    window = opened()

    window.close()

    assert window.next_to_search() is None
