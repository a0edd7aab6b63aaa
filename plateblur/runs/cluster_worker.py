"""A worker of a cluster: it reads, blurs and writes photos, and asks the driver for each line.

The driver has the manifest. So a worker never gives an output its name before the driver has
answered that the photo's line is on the disk, as `manifest.py` promises. Nothing of Ray is in
here: `cluster.py` makes an actor of it.
"""

from __future__ import annotations

import queue
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plateblur.cores import limit_opencv
from plateblur.detector import OnnxDetector
from plateblur.engines import Device, Engine
from plateblur.errors import RunError
from plateblur.runs.files import Outputs
from plateblur.runs.given import Corrections
from plateblur.runs.manifest import SOFTWARE
from plateblur.runs.photos import MaskFolders, photo_maker
from plateblur.runs.places import Remote, RemoteOutputs
from plateblur.runs.plan import File, Job, Task
from plateblur.runs.progress import Done
from plateblur.runs.settle import Before, Settler, Written
from plateblur.runs.workers import MORE_IN_HAND, room_for
from plateblur.types import BlurOptions, Detector
from plateblur.zones import Zones

PATIENCE_S = 10.0  # after which a worker answers though it has nothing to say


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the photos of a run are done; every worker gets it once.

    Attributes:
        software: name and version of the driver's PlateBlur.
        options: how photos are blurred.
        max_pixels: the most that are decoded.
        engine: what runs the model.
        device: what it runs on.
        out: where outputs go; None: in the place of the photos.
        is_one_file: `out` is the output itself.
        overwrite: replace files that the manifest doesn't know.
        keeps_pictures: a photo fails whose file holds more pictures, which would be lost.
        masks: where masks go, absolute paths.
        run: number of the run.
        corrections: what people corrected in its photos.
        cpus: cores of one worker.
        shared: folders and files on a disk that every worker must see.
        probe: a file on that disk, and what it holds; None where no output goes to a disk.
    """

    software: str
    options: BlurOptions
    max_pixels: int
    engine: Engine
    device: Device
    out: File | None
    is_one_file: bool
    overwrite: bool
    keeps_pictures: bool
    masks: MaskFolders
    run: int
    corrections: Corrections = field(default_factory=Corrections)
    cpus: int = 1
    shared: tuple[Path, ...] = ()
    probe: tuple[Path, str] | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A photo to do: its number in the run, and what the manifest knows of it.

    The zones of its task have but their name; they are sent once.
    """

    number: int
    task: Task
    before: Before


@dataclass(frozen=True, slots=True)
class Line:
    """A line for the manifest; the worker waits until it is on the disk."""

    number: int
    line: dict[str, Any]
    onto: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a photo."""

    number: int
    done: Done


@dataclass(frozen=True, slots=True)
class Reply:
    """Where the line of a photo begins, or why it couldn't be written."""

    number: int
    offset: int = 0
    error: str | None = None


Message = Line | Ended


class Worker:
    """Does photos of one run, several at a time."""

    def __init__(self) -> None:
        """Wait for the order."""
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._replies: dict[int, queue.SimpleQueue[Reply]] = {}
        self._zones: dict[str, Zones] = {}

    def start(self, order: Order, models: Sequence[bytes]) -> None:
        """Get ready.

        Args:
            order: how photos are done.
            models: ONNX files, the detector's and, if it has one, its network's for near plates.

        Raises:
            RunError: this machine has another version, or doesn't see the run's folders.
            ModelError: the model can't be used here.
        """
        where = socket.gethostname()
        if order.software != SOFTWARE:
            raise RunError(
                f"{where} has {SOFTWARE}, and this command is {order.software}: install the same "
                "version on every node"
            )
        _require_shared(order, where)
        limit_opencv(order.cpus)
        with tempfile.TemporaryDirectory(prefix="plateblur-") as folder:
            files = [Path(folder, f"{number}.onnx") for number in range(len(models))]
            for file, content in zip(files, models, strict=True):
                file.write_bytes(content)
            detector = OnnxDetector(
                files[0],
                near=files[1] if len(files) > 1 else None,
                engine=order.engine,
                device=order.device,
                threads=order.cpus,
            )
        self._begin(order, detector)

    def _begin(self, order: Order, detector: Detector) -> None:
        in_place = order.out is None
        here = Outputs([], overwrite=order.overwrite, in_place=in_place)
        outputs: Written = here
        if isinstance(order.out, Remote):
            outputs = RemoteOutputs(overwrite=order.overwrite)
        self._settler = Settler(outputs, order.run, in_place, order.masks.of)
        self._make = photo_maker(
            lambda data, task: order.corrections.blur(
                data, task, detector, order.options, max_pixels=order.max_pixels
            ),
            room_for(order.cpus),
            order.masks,
            here,
            is_one_file=order.is_one_file,
            keeps_pictures=order.keeps_pictures,
        )
        self._pool = ThreadPoolExecutor(order.cpus + MORE_IN_HAND, thread_name_prefix="photo")

    def exchange(
        self, given: Sequence[Given], replies: Sequence[Reply], zones: dict[str, Zones]
    ) -> list[Message]:
        """Begin the photos in `given`, pass on `replies`, and return what there is to tell.

        Args:
            given: photos to do.
            replies: to the lines of the last call.
            zones: those that tasks name, and that this worker doesn't know yet.
        """
        self._zones |= zones
        for reply in replies:
            self._replies[reply.number].put(reply)
        for each in given:
            self._replies[each.number] = queue.SimpleQueue()
            self._pool.submit(self._do, each)
        messages: list[Message] = []
        try:
            messages.append(self._messages.get(timeout=PATIENCE_S))
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def _do(self, given: Given) -> None:
        def append(line: dict[str, Any], *, onto: int | None = None) -> int:
            self._messages.put(Line(given.number, dict(line), onto))
            reply = self._replies[given.number].get()
            if reply.error is not None:
                raise OSError(reply.error)
            return reply.offset

        task = replace(given.task, zones=self._zones[given.task.zones_name])
        try:
            done = self._settler.settle(task, given.before, append, Job.take, self._make)
        except Exception as error:  # noqa: BLE001 - a bug: the driver must not wait for this photo
            record = {"photo": str(task.job.photo), "error": f"{type(error).__name__}: {error}"}
            done = Done(record=record, error=record["error"])
        del self._replies[given.number]
        self._messages.put(Ended(given.number, done))


def _require_shared(order: Order, where: str) -> None:
    """Raise unless this machine sees the folders of the run.

    Raises:
        RunError: it doesn't.
    """
    rest = "every node needs the same shared folder under the same path, or use a bucket"
    for path in order.shared:
        try:
            is_there = path.exists()
        except OSError:
            is_there = False
        if not is_there:
            raise RunError(f"{where} doesn't see {path}: {rest}")
    if order.probe is not None:
        file, token = order.probe
        try:
            is_same = file.read_text() == token
        except OSError:
            is_same = False
        if not is_same:
            raise RunError(f"{where} has another folder at {file.parent}: {rest}")
