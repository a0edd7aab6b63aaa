"""The driver of a cluster run against stand-ins for Ray's actors, which end when a test says so."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.errors import ModelError
from plateblur.runs.cluster_worker import Order, Reply, Worker, _require_shared
from plateblur.runs.manifest import MANIFEST_NAME
from tests.fakes import FixedDetector, boxes, encoded, street

pytestmark = [
    pytest.mark.slow,  # Ray takes two seconds to import
    pytest.mark.skipif(not find_spec("ray"), reason="needs the extra cluster"),
]

CORES = 2
Dies = Callable[[int, str, int], str | None]
"""When an actor ends, by its number, the method and how often that was called: before or after."""


class Actor:
    """Calls a worker in a thread, with arguments and answers pickled, as Ray does."""

    def __init__(self, number: int, dies: Dies) -> None:
        self.number = number
        self._dies = dies
        self._worker = Worker()
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._is_dead = False
        self.calls = 0

    def __getattr__(self, method: str) -> Any:
        return Method(self, method)

    def call(self, method: str, arguments: bytes) -> Any:
        from ray.exceptions import RayActorError

        self.calls += 1
        when = self._dies(self.number, method, self.calls)
        if self._is_dead or when == "before":
            self._is_dead = True
            raise RayActorError
        answer = getattr(self._worker, method)(*pickle.loads(arguments))  # noqa: S301
        if when == "after":
            self._is_dead = True
            raise RayActorError
        return pickle.loads(pickle.dumps(answer))  # noqa: S301


class Method:
    """What `actor.method` is."""

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> concurrent.futures.Future[Any]:
        return self._actor._pool.submit(self._actor.call, self._name, pickle.dumps(arguments))


class FakeRay:
    """The part of Ray that the driver uses."""

    def __init__(self, dies: Dies) -> None:
        self._dies = dies
        self._numbers = itertools.count()
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.cores = float(CORES)

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "Resources": {"CPU": self.cores}},
            {"Alive": False, "Resources": {}},
        ]

    def remote(self, _: type) -> Any:
        return self

    def options(self, **how: Any) -> Any:
        assert (how["max_restarts"], how["max_task_retries"]) == (0, 0)
        ray = self

        class Class:
            def remote(self) -> Actor:
                ray.actors.append(Actor(next(ray._numbers), ray._dies))
                return ray.actors[-1]

        return Class()

    def wait(self, refs: Any, *, num_returns: int, timeout: float) -> Any:
        done, rest = concurrent.futures.wait(
            refs, timeout, return_when=concurrent.futures.FIRST_COMPLETED
        )
        ready = list(done)[:num_returns]
        return ready, [*list(done)[num_returns:], *rest]

    def get(self, ref: Any) -> Any:
        return ref.result()

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from plateblur.runs import cluster

    def start(worker: Worker, order: Order, models: tuple[bytes, ...]) -> None:
        _require_shared(order, "fake")
        assert min(map(len, models)) > 1_000_000
        worker._begin(order, FixedDetector(boxes([40, 30, 90, 45])))

    monkeypatch.setattr(Worker, "start", start)
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext())
    monkeypatch.setattr(cluster, "TURN_S", 0.05)
    monkeypatch.setattr("plateblur.runs.cluster_worker.PATIENCE_S", 0.05)
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(20):
        photo = Path(f"in/{number:02}.png")
        photo.write_bytes(encoded(street(90, 140, seed=number), "PNG"))
        os.utime(photo, (1e9, 1e9))  # one written just now might change once more unseen
    return tmp_path


@pytest.fixture
def ray_with(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Dies], FakeRay]]:
    from plateblur.runs import cluster

    made: list[FakeRay] = []

    def install(dies: Dies) -> FakeRay:
        fake = FakeRay(dies)
        made.append(fake)
        monkeypatch.setattr(cluster, "ray", fake)
        return fake

    yield install
    for actor in made[0].actors:
        # Threads of an actor that ended wait for a reply; Ray would have ended them with it.
        for replies in list(actor._worker._replies.values()):
            for _ in range(4):  # one that fails has a line about that to write
                replies.put(Reply(0, error="the worker has ended"))
        actor._pool.shutdown(wait=False)


def blur(*options: object) -> Result:
    line = ["blur", "in", "-o", "out", "--cluster", "auto", *map(str, options)]
    return CliRunner().invoke(cli.app, line)


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out", MANIFEST_NAME).read_text().splitlines()]


def check_outputs(count: int = 20) -> None:
    last = {line["output"]: line for line in lines() if "output" in line}
    assert {name for name, line in last.items() if line["state"] == "done"} == set(last)
    assert sorted(path.name for path in Path("out").glob("*.png")) == sorted(last)
    assert len(last) == count
    assert not list(Path("out").glob(".plateblur-*.part"))


def never(number: int, method: str, calls: int) -> None:
    return None


def test_every_photo_is_done_once_by_all_workers(
    ray_with: Callable[[Dies], FakeRay],
) -> None:
    fake = ray_with(never)
    result = blur()
    assert result.exit_code == 0, result.output
    check_outputs()
    assert lines()[-1]["outcome"]["done"] == 20
    assert len(fake.actors) == CORES
    assert all(actor.calls > 1 for actor in fake.actors)
    assert set(fake.killed) == set(fake.actors)
    assert "20 photos done before" in blur().stderr
    assert len(fake.actors) == CORES  # none is started where nothing is to be done


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [2, 3, 5])
def test_what_a_worker_had_in_hand_is_done_by_another(
    ray_with: Callable[[Dies], FakeRay], when: str, call: int
) -> None:
    fake = ray_with(lambda number, _, calls: when if (number, calls) == (0, call) else None)
    result = blur()
    assert result.exit_code == 0, result.output
    assert len(fake.actors) == CORES + 1
    assert lines()[-1]["outcome"]["done"] == 20
    assert lines()[-1]["outcome"]["plates"] == 20
    check_outputs()


def test_a_photo_that_ends_every_worker_fails_alone(
    ray_with: Callable[[Dies], FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import RayActorError

    whole = Worker.exchange

    def dies_of(worker: Worker, given: Any, replies: Any, zones: Any) -> Any:
        if any(each.task.output == "07.png" for each in given):
            raise RayActorError
        return whole(worker, given, replies, zones)

    monkeypatch.setattr(Worker, "exchange", dies_of)
    ray_with(never)
    result = blur()
    assert result.exit_code == 1
    assert "not done: in/07.png: 3 workers ended while they had this photo" in result.stderr
    assert lines()[-1]["outcome"]["done"] == 19
    check_outputs(19)


def test_workers_that_never_come_up_end_the_run(ray_with: Callable[[Dies], FakeRay]) -> None:
    ray_with(lambda _, method, __: "before" if method == "start" else None)
    result = blur()
    assert result.exit_code == 2
    assert "the cluster's workers end before they are ready" in result.stderr
    assert not list(Path("out").glob("*.png"))


def test_a_cluster_without_cores_is_said(ray_with: Callable[[Dies], FakeRay]) -> None:
    ray_with(never).cores = 0.0
    result = blur()
    assert result.exit_code == 2
    assert "the cluster has no core for workers" in result.stderr


def test_a_worker_that_can_not_start_ends_the_run_with_its_reason(
    ray_with: Callable[[Dies], FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import RayTaskError

    made: Any = RayTaskError

    def fails(worker: Worker, order: Order, model: bytes) -> None:
        raise made("start", "traceback", ModelError("expected an ONNX model"))

    monkeypatch.setattr(Worker, "start", fails)
    ray_with(never)
    result = blur()
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("plateblur: expected an ONNX model")


def test_an_input_is_not_written_over_though_workers_know_no_inputs(
    ray_with: Callable[[Dies], FakeRay],
) -> None:
    ray_with(never)
    before = Path("in/00.png").read_bytes()
    line = ["blur", "in", "-o", "in", "--overwrite", "--cluster", "auto"]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 1
    assert "was given itself; --in-place alone replaces those" in result.stderr
    assert Path("in/00.png").read_bytes() == before


def test_in_place_and_masks_on_a_cluster(ray_with: Callable[[Dies], FakeRay]) -> None:
    ray_with(never)
    before = Path("in/00.png").read_bytes()
    line = ["blur", "in", "--in-place", "--masks", "masks", "--cluster", "auto"]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 0, result.output
    assert Path("in/00.png").read_bytes() != before
    assert len(list(Path("masks").glob("*.png"))) == 20


def test_the_manifest_can_not_be_written(
    ray_with: Callable[[Dies], FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    from plateblur.runs.manifest import Manifest

    whole = Manifest.append_all

    def full(manifest: Manifest, some: list[dict[str, Any]]) -> list[int]:
        if any("output" in line for line in some):
            raise OSError(28, "No space left on device")
        return whole(manifest, some)

    monkeypatch.setattr(Manifest, "append_all", full)
    ray_with(never)
    result = blur()
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert not list(Path("out").glob("*.png"))
    assert not list(Path("out").glob(".plateblur-*.part"))


def test_the_extra_that_is_missing_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "plateblur.runs.cluster")
    result = blur()
    assert result.exit_code == 2
    assert "Run: pip install 'plateblur[cluster]'" in result.stderr
