"""A run on a Ray cluster: this process keeps plan and manifest, actors on the nodes do the photos.

Each actor loads the model once and reads and writes photos where they are; Ray carries only
addresses and lines of the manifest. A photo goes to an actor when that has room for it, so nothing
queues up in the cluster. What an actor had in hand when it or its node ended is done by another.

Ray's actors and not Ray Data, because an output may get its name only when its line is on the
driver's disk: see docs/decisions/0007-cluster.md.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError, RayTaskError

from plateblur.detector import near_model
from plateblur.errors import ModelError, RunError
from plateblur.runs.cluster_worker import (
    Ended,
    Given,
    Line,
    Message,
    Order,
    Reply,
    Worker,
)
from plateblur.runs.files import PART_PREFIX, PART_SUFFIX, explain, remove_parts
from plateblur.runs.photos import MaskFolders
from plateblur.runs.places import Remote
from plateblur.runs.plan import File, Task
from plateblur.runs.progress import Done
from plateblur.runs.run import Run
from plateblur.runs.workers import MORE_IN_HAND
from plateblur.zones import NO_ZONES

KNOCK_S = 10.0  # for a cluster to take a connection
CLIENT_PORT = 10001  # Source: Ray's default for ray://
TURN_S = 1.0  # between looks at what the cluster has
MOST_LOSSES = 3  # of workers with one photo in hand; then it is taken for what ends them
MOST_FAILED_STARTS = 20  # in a row
START_S = 600.0  # in which the first worker must be ready; images may have to be pulled


@dataclass(frozen=True, slots=True)
class Size:
    """What one worker takes of a node.

    Attributes:
        cpus: cores.
        gpus: 1 or 0.
        most: how many of these workers the cluster has room for.
    """

    cpus: int
    gpus: int
    most: int


@dataclass(slots=True)
class Member:
    """A worker as the driver knows it.

    Attributes:
        actor: Ray's handle.
        in_hand: the photos that it was given and that haven't ended.
        zones: those that it knows.
        is_ready: it has loaded the model.
        replies: to lines that are on the disk, not sent yet.
    """

    actor: Any
    in_hand: set[int] = field(default_factory=set)
    zones: set[str] = field(default_factory=set)
    is_ready: bool = False
    replies: list[Reply] = field(default_factory=list)


class Crew:
    """The workers of one run; `Crew(...)` is what `Run.carry_out` takes."""

    def __init__(
        self, run: Run, order: Order, models: Sequence[bytes], *, workers: int | None
    ) -> None:
        """Prepare a run; workers start with the first photo.

        Args:
            run: open.
            order: what every worker gets, with the cores of one.
            models: ONNX files, the detector's and, if it has one, its network's for near plates.
            workers: how many at the same time; None: as many as the cluster has room for.
        """
        self._run, self._order, self._workers = run, order, workers
        self._models = ray.put(tuple(models))
        self._members: list[Member] = []
        self._calls: dict[Any, Member] = {}  # what each worker is asked now
        self._tasks: list[Task] = []
        self._waiting: deque[int] = deque()
        self._suspects: deque[int] = deque()  # in hand of a worker that ended: done one at a time
        self._losses: Counter[int] = Counter()
        self._failed_starts = 0
        self._hire_at = 0.0

    def __call__(self, tasks: list[Task], *, stopping: Event) -> Iterator[tuple[Task, Done | None]]:
        """Yield each task with what came of it, or None where it was not begun.

        Raises:
            RunError: the cluster can't do the run.
        """
        self._tasks = tasks
        self._waiting.extend(range(len(tasks)))
        idle_s = 0.0
        try:
            while self._waiting or self._suspects or any(one.in_hand for one in self._members):
                if stopping.is_set():
                    for left in (self._waiting, self._suspects):
                        while left:
                            yield tasks[left.popleft()], None
                self._hire()
                yield from self._deal()
                ready = self._answers()
                is_up = any(one.is_ready for one in self._members)
                idle_s = 0.0 if ready or is_up else idle_s + TURN_S
                if idle_s > START_S:
                    raise RunError(
                        f"no worker could start in {START_S / 60:.0f} minutes; other work may "
                        "have the cluster's cores or GPUs"
                    )
                yield from self._hear(ready)
        finally:
            for one in self._members:
                with suppress(RayError):
                    ray.kill(one.actor)
            if self._losses:
                lost = {self._tasks[number].target for number in self._losses}
                with suppress(OSError):
                    remove_parts({file.parent for file in lost if isinstance(file, Path)})

    def _hire(self) -> None:
        """Start workers up to what the cluster has room for; nodes may come and go.

        Raises:
            RunError: it has room for none.
        """
        if time.monotonic() < self._hire_at:
            return
        self._hire_at = time.monotonic() + TURN_S
        size = size_of(self._order.device)
        left = len(self._waiting) + len(self._suspects) + sum(map(_count, self._members))
        wanted = min(self._workers or size.most, size.most, left)
        if size.most == 0 and not self._members:
            kind = "GPU" if size.gpus else "core"
            raise RunError(f"the cluster has no {kind} for workers")
        for _ in range(wanted - len(self._members)):
            actor: Any = (
                ray.remote(Worker)
                .options(
                    num_cpus=size.cpus,
                    num_gpus=size.gpus,
                    max_restarts=0,
                    max_task_retries=0,
                    scheduling_strategy="SPREAD",
                )
                .remote()
            )
            member = Member(actor)
            self._members.append(member)
            self._calls[actor.start.remote(self._order, self._models)] = member

    def _deal(self) -> Iterator[tuple[Task, Done]]:
        """Give photos to workers that have room, and answer those that wait.

        Yields:
            Tasks that can't be given to any, and why.
        """
        asked = {id(member) for member in self._calls.values()}
        for member in self._members:
            if not member.is_ready or id(member) in asked:
                continue
            given: list[Given] = []
            zones = {}
            while (number := self._next(member)) is not None:
                task = self._tasks[number]
                if refusal := self._refusal(task):
                    yield task, refusal
                    continue
                member.in_hand.add(number)
                given.append(Given(number, _portable(task), self._run.ledger.before(task)))
                if task.zones_name not in member.zones:
                    member.zones.add(task.zones_name)
                    zones[task.zones_name] = task.zones
            if given or member.replies or member.in_hand:
                replies, member.replies = member.replies, []
                self._calls[member.actor.exchange.remote(given, replies, zones)] = member

    def _next(self, member: Member) -> int | None:
        """Return the photo that a worker is to do next, or None where it has enough."""
        if any(self._losses[number] for number in member.in_hand):
            return None
        if not member.in_hand and self._suspects:
            return self._suspects.popleft()
        if len(member.in_hand) < self._order.cpus + 2 * MORE_IN_HAND and self._waiting:
            return self._waiting.popleft()
        return None

    def _refusal(self, task: Task) -> Done | None:
        """Return why a photo is given to no worker: they don't know what else was given."""
        if self._order.out is None or not isinstance(task.target, Path):
            return None
        if not self._run.inputs.holds(task.target):
            return None
        error = f"{task.target} was given itself; --in-place alone replaces those"
        return Done(record={"photo": str(task.job.photo), "error": error}, error=error)

    def _answers(self) -> list[tuple[Member, list[Message] | RayError]]:
        """Return what workers answered, or how they ended, once there is anything."""
        calls = list(self._calls)
        if not calls:
            return []
        ready, rest = ray.wait(calls, num_returns=1, timeout=TURN_S)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        answers: list[tuple[Member, list[Message] | RayError]] = []
        for call in ready:
            member = self._calls.pop(call)
            try:
                answer = ray.get(call)
                if not member.is_ready:
                    member.is_ready, answer = True, []
                    self._failed_starts = 0
                answers.append((member, answer))
            except RayTaskError as error:
                _raise_as_ours(error)
            except RayError as error:
                answers.append((member, error))
        return answers

    def _hear(
        self, answers: list[tuple[Member, list[Message] | RayError]]
    ) -> Iterator[tuple[Task, Done]]:
        """Write down all lines with one fsync, and yield what has ended."""
        lines: list[tuple[Member, Line]] = []
        ended: list[tuple[Member, Ended]] = []
        for member, answer in answers:
            if isinstance(answer, RayError):
                yield from self._lose(member, answer)
                continue
            for message in answer:
                if isinstance(message, Line):
                    lines.append((member, message))
                else:
                    ended.append((member, message))
        self._write(lines)
        for member, message in ended:
            member.in_hand.discard(message.number)
            done = message.done
            if self._losses[message.number]:
                if done.error is not None and done.line is None:
                    # Its place may have been taken by the worker that was taken for dead.
                    yield from self._suspect(message.number, done)
                    continue
                done = self._as_of_this_run(done)
            yield self._tasks[message.number], done

    def _write(self, lines: list[tuple[Member, Line]]) -> None:
        ledger = self._run.ledger
        try:
            offsets = ledger.manifest.append_all(
                [ledger.completed(one.line, one.onto) for _, one in lines]
            )
        except OSError as error:
            for member, one in lines:
                member.replies.append(Reply(one.number, error=explain(error)))
            return
        for (member, one), offset in zip(lines, offsets, strict=True):
            member.replies.append(Reply(one.number, offset))

    def _lose(self, member: Member, why: RayError) -> Iterator[tuple[Task, Done]]:
        """Let others do what a worker had in hand that has ended.

        Raises:
            RunError: workers end before they are ready, one after the other.
        """
        self._members.remove(member)
        with suppress(RayError):
            ray.kill(member.actor)  # it may only be out of reach
        if not member.is_ready:
            self._failed_starts += 1
            if self._failed_starts > MOST_FAILED_STARTS:
                reason = str(why).strip().splitlines()[-1]
                raise RunError(
                    f"the cluster's workers end before they are ready: {reason}"
                ) from why
        error = f"{MOST_LOSSES} workers ended while they had this photo in hand"
        for number in sorted(member.in_hand):
            record = {"photo": str(self._tasks[number].job.photo), "error": error}
            yield from self._suspect(number, Done(record=record, error=error))

    def _suspect(self, number: int, failure: Done) -> Iterator[tuple[Task, Done]]:
        """Do a photo once more, alone, or yield its failure where that was tried often enough."""
        self._losses[number] += 1
        if self._losses[number] < MOST_LOSSES:
            self._suspects.append(number)
        else:
            yield self._tasks[number], failure

    def _as_of_this_run(self, done: Done) -> Done:
        """Return what came of a photo whose output is by a worker that has ended since."""
        if not done.is_known or done.line is None:
            return done
        line = self._run.manifest.line_at(done.line)
        return Done(
            line=done.line,
            plates=line["plates"],
            ignored=line.get("ignored", 0),
            notes=tuple(line.get("notes", ())),
        )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Use the Ray cluster at `address` in the block.

    Args:
        address: "auto" for the one of this machine, HOST:PORT, or ray://HOST:PORT from outside.

    Raises:
        RunError: there is none, or it can't be used from here.
    """
    try:
        if address != "auto":
            _knock(address)
    except (OSError, ValueError) as error:
        raise RunError(
            f"there is no Ray cluster at {address}; start one with `ray start --head`, or give "
            "its address"
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        # Such as another version of Ray or Python there.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(f"can't connect to the Ray cluster at {address}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise `OSError` or `ValueError` where nothing listens; Ray would try for minutes."""
    where = urlsplit(address if "://" in address else f"//{address}")
    with socket.create_connection((where.hostname or "", where.port or CLIENT_PORT), KNOCK_S):
        pass


@contextmanager
def crew_of(
    run: Run, order: Order, model: Path, given: list[File], *, workers: int | None
) -> Iterator[Crew]:
    """Prepare the workers of a run; needs `connected`.

    Args:
        run: open.
        order: without cores, folders and probe.
        model: an ONNX file.
        given: photos and folders, as they were given.
        workers: how many; None: as many as the cluster has room for.

    Raises:
        RunError: the model can't be read, or the engine needs files that workers don't get.
    """
    if order.engine == "openvino-int8":
        raise RunError(
            "engine 'openvino-int8' isn't available on a cluster, whose workers get the model "
            "alone; choose onnxruntime, openvino or auto"
        )
    size = size_of(order.device)
    roots = [place.absolute() for place in given if isinstance(place, Path)]
    masks = MaskFolders(*(None if f is None else f.absolute() for f in _folders(order.masks)))
    try:
        near = near_model(model)
        models = [path.read_bytes() for path in (model, near) if path]
        with _probe(order) as probe:
            full = replace(
                order,
                device="cuda" if size.gpus else "cpu",
                cpus=size.cpus,
                out=order.out.absolute() if isinstance(order.out, Path) else order.out,
                masks=masks,
                shared=tuple(roots),
                probe=probe,
            )
            yield Crew(run, full, models, workers=workers)
    except OSError as error:
        raise RunError(f"the run can't start: {explain(error)}") from error


@contextmanager
def _probe(order: Order) -> Iterator[tuple[Path, str] | None]:
    """Write a file into the folder of outputs that a worker can tell it by."""
    if not isinstance(order.out, Path):
        yield None
        return
    folder = order.out.parent if order.is_one_file else order.out
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex()
    file = folder.absolute() / f"{PART_PREFIX}probe-{token[:16]}{PART_SUFFIX}"
    file.write_text(token)
    try:
        yield file, token
    finally:
        file.unlink(missing_ok=True)


def size_of(device: str) -> Size:
    """Return what one worker takes of the cluster as it is now.

    A worker on the CPU takes one core, so that it fits wherever one is free. One on a GPU takes its
    share of the cores beside it, to decode and encode for it.
    """
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [one["Resources"] for one in known if one["Alive"]]
    with_gpu = [one for one in nodes if one.get("GPU", 0) >= 1 and one.get("CPU", 0) >= 1]
    if device == "cuda" or (device == "auto" and with_gpu):
        cpus = min((int(one["CPU"] // one["GPU"]) for one in with_gpu), default=1)
        return Size(max(1, cpus), 1, sum(int(one["GPU"]) for one in with_gpu))
    return Size(1, 0, sum(int(one.get("CPU", 0)) for one in nodes))


def _portable(task: Task) -> Task:
    """Return a task that means the same on another machine; its zones go by their name."""
    photo, target = (
        file if isinstance(file, Remote) else file.absolute()
        for file in (task.job.photo, task.target)
    )
    return replace(task, job=replace(task.job, photo=photo), target=target, zones=NO_ZONES)


def _folders(masks: MaskFolders) -> tuple[Path | None, Path | None]:
    return masks.binary, masks.instances


def _count(member: Member) -> int:
    return len(member.in_hand)


def _raise_as_ours(error: RayTaskError) -> None:
    """Raise what a worker raised, with a line that people understand.

    Raises:
        RunError: always.
    """
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, RunError | ModelError):
        raise RunError(str(cause)) from error
    raise RunError(f"a worker failed: {type(cause).__name__}: {cause}") from error
