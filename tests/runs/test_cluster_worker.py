"""A worker of a cluster without the cluster: nothing gets its name before its line is answered."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plateblur.errors import RunError
from plateblur.runs import given as corrections
from plateblur.runs.cluster_worker import Ended, Given, Line, Message, Order, Reply, Worker
from plateblur.runs.manifest import SOFTWARE, Entry, Version
from plateblur.runs.photos import MaskFolders
from plateblur.runs.plan import Job, Task
from plateblur.runs.settle import Before
from plateblur.types import BlurOptions
from plateblur.zones import NO_ZONES, Zones, rectangle
from tests.fakes import FixedDetector, boxes, encoded, street

PHOTO = encoded(street(90, 140), "PNG")
NEW = Before(None, may_count=False)


def order_for(folder: Path, **changes: Any) -> Order:
    order = Order(
        software=SOFTWARE,
        options=BlurOptions(),
        max_pixels=1_000_000,
        engine="onnxruntime",
        device="cpu",
        out=folder / "out",
        is_one_file=False,
        overwrite=False,
        keeps_pictures=False,
        masks=MaskFolders(),
        run=1,
    )
    return replace(order, **changes)


def worker_for(order: Order) -> Worker:
    worker = Worker()
    worker._begin(pickle.loads(pickle.dumps(order)), FixedDetector(boxes([40, 30, 90, 45])))  # noqa: S301
    return worker


def given(folder: Path, name: str = "a.png", *, number: int = 0, before: Before = NEW) -> Given:
    photo = folder / name
    photo.write_bytes(PHOTO)
    os.utime(photo, (1_700_000_000, 1_700_000_000))
    task = Task(Job(photo, Path(name)), folder / "out" / name, name)
    made: Given = pickle.loads(pickle.dumps(Given(number, task, before)))  # noqa: S301
    return made


def settled(worker: Worker, first: list[Message]) -> list[Message]:
    """Answer every line, as a driver does, until all photos have ended."""
    told, waiting = list(first), list(first)
    while not any(isinstance(one, Ended) for one in told):
        replies = [Reply(one.number, 100) for one in waiting if isinstance(one, Line)]
        waiting = worker.exchange([], replies, {})
        told += waiting
    return told


def test_an_output_gets_its_name_once_its_line_is_answered(tmp_path: Path) -> None:
    worker = worker_for(order_for(tmp_path))
    (line,) = worker.exchange([given(tmp_path)], [], {"": NO_ZONES})
    assert isinstance(line, Line)
    assert line.line["state"] == "done"
    assert not (tmp_path / "out" / "a.png").exists()
    (end,) = worker.exchange([], [Reply(0, 77)], {})
    assert isinstance(end, Ended)
    assert (end.done.line, end.done.plates, end.done.error) == (77, 1, None)
    assert (tmp_path / "out" / "a.png").exists()


def test_a_line_that_can_not_be_written_leaves_no_output(tmp_path: Path) -> None:
    worker = worker_for(order_for(tmp_path))
    worker.exchange([given(tmp_path)], [], {"": NO_ZONES})
    (line,) = worker.exchange([], [Reply(0, error="No space left on device")], {})
    assert isinstance(line, Line)
    assert (line.line["state"], line.line["final"]) == ("failed", False)
    (end,) = worker.exchange([], [Reply(0, error="No space left on device")], {})
    assert isinstance(end, Ended)
    assert end.done.error == "No space left on device"
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_worker_that_ended_has_written_counts(tmp_path: Path) -> None:
    worker = worker_for(order_for(tmp_path))
    told = settled(worker, worker.exchange([given(tmp_path)], [], {"": NO_ZONES}))
    line = next(one.line for one in told if isinstance(one, Line))
    of_input, of_output = (
        Version(told["size"], told["stamp"], bytes.fromhex(told["sha256"]))
        for told in (line["input"], line["written"])
    )
    entry = Entry(5, line["photo"], "done", 1, of_input, (of_output,), is_final=False)
    again = worker_for(order_for(tmp_path))
    before = Before(entry, may_count=True)
    told = again.exchange([given(tmp_path, before=before)], [], {"": NO_ZONES})
    assert [(one.onto, one.line["output"]) for one in told if isinstance(one, Line)] == [
        (5, "a.png")
    ]
    end = settled(again, told)[-1]
    assert isinstance(end, Ended)
    assert end.done.is_known


def test_zones_are_those_that_the_task_names(tmp_path: Path) -> None:
    worker = worker_for(order_for(tmp_path))
    one = given(tmp_path)
    named = replace(one, task=replace(one.task, zones_name="z1"))
    all_over = Zones(ignore=(rectangle("0,0,1,1"),), hide=())
    end = settled(worker, worker.exchange([named], [], {"z1": all_over}))[-1]
    assert isinstance(end, Ended)
    assert (end.done.plates, end.done.ignored) == (0, 1)


def test_a_bug_ends_its_photo_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("missing")

    monkeypatch.setattr(corrections, "blur_photo", fails)
    worker = worker_for(order_for(tmp_path))
    (end,) = worker.exchange([given(tmp_path)], [], {"": NO_ZONES})
    assert isinstance(end, Ended)
    assert end.done.error == "KeyError: 'missing'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"software": "plateblur 0.0.1"}, f"has {SOFTWARE}, and this command is plateblur 0.0.1"),
        ({"shared": (Path("/not/there"),)}, "doesn't see /not/there: every node needs the same"),
        ({"probe": (Path("/tmp/other"), "x")}, "has another folder at /tmp: every node needs"),
    ],
    ids=["version", "input", "output"],
)
def test_a_worker_that_does_not_fit_says_so(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RunError) as raised:
        Worker().start(order_for(tmp_path, **changes), [b"no model"])
    assert says in str(raised.value)


@pytest.mark.slow
def test_an_engine_that_needs_more_than_the_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from plateblur.runs.cluster import crew_of

    order = order_for(tmp_path, engine="openvino-int8")
    nothing: Any = None  # no run is begun
    with (
        pytest.raises(RunError, match="engine 'openvino-int8' isn't available on a cluster"),
        crew_of(nothing, order, tmp_path / "mine.onnx", [], workers=None),
    ):
        pass
