"""One photo of a run: read, blurred, with its masks beside it if they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plateblur.errors import EncodeError
from plateblur.formats import BY_SUFFIX
from plateblur.masks import as_binary_png, as_instance_png
from plateblur.runs.files import Outputs, write_atomically
from plateblur.runs.plan import Task
from plateblur.runs.report import described
from plateblur.runs.workers import PixelsInHand, pixels_of
from plateblur.types import BlurredPhoto


@dataclass(frozen=True, slots=True)
class MaskFolders:
    """Where masks go: under the path of the photo, with `.png` behind its name.

    Attributes:
        binary: 255 where anything is hidden; None for none.
        instances: the number of the plate that a pixel is hidden for; None for none.
    """

    binary: Path | None = None
    instances: Path | None = None

    def __bool__(self) -> bool:
        return self.binary is not None or self.instances is not None

    def of(self, task: Task) -> list[Path]:
        """Return the masks that belong to a photo."""
        name = task.job.inside.with_name(f"{task.job.inside.name}.png")
        return [folder / name for folder in (self.binary, self.instances) if folder is not None]

    def write(self, task: Task, blurred: BlurredPhoto, inputs: Outputs) -> None:
        """Write the masks of a photo.

        Raises:
            FileExistsError: a photo that was given is there.
            OSError: one can't be written.
        """
        if blurred.mask is None:
            return
        forms = [
            form
            for folder, form in ((self.binary, as_binary_png), (self.instances, as_instance_png))
            if folder is not None
        ]
        for path, form in zip(self.of(task), forms, strict=True):
            if inputs.holds(path):
                raise FileExistsError(f"a mask can't be written over {path}")
            write_atomically(path, form(blurred.mask))


def photo_maker(
    blur: Callable[[bytes, Task], BlurredPhoto],
    room: PixelsInHand,
    masks: MaskFolders,
    inputs: Outputs,
    *,
    is_one_file: bool,
    keeps_pictures: bool,
) -> Callable[[Task, bytes], tuple[dict[str, Any], bytes]]:
    """Return what blurs one photo, and tells what the manifest says of it.

    Args:
        blur: blurs a photo with the zones of its task.
        room: for the pixels of all photos in hand.
        masks: where they go.
        inputs: knows the photos that were given.
        is_one_file: the output was named itself, so its suffix must fit.
        keeps_pictures: a photo fails whose file holds more pictures, which would be lost.
    """

    def make(task: Task, data: bytes) -> tuple[dict[str, Any], bytes]:
        with room.of(pixels_of(data)):
            blurred = blur(data, task)
            if is_one_file:
                _check_suffix(task, blurred.format)
            if keeps_pictures:
                _check_pictures(blurred.pictures_dropped)
            masks.write(task, blurred, inputs)
        found = described(blurred.detections, blurred.image_hw, blurred.projection)
        ignored = {"ignored": blurred.ignored} if task.zones else {}
        notes = {"notes": list(blurred.notes)} if blurred.notes else {}
        return {"plates": len(blurred.detections), **ignored, **notes, **found}, blurred.data

    return make


def _check_pictures(dropped: int) -> None:
    """Raise if replacing a photo would lose other pictures in its file.

    Raises:
        EncodeError: it would.
    """
    if dropped:
        pictures = "another picture" if dropped == 1 else f"{dropped} more pictures"
        raise EncodeError(f"it holds {pictures}, which --drop-other-pictures drops")


def _check_suffix(task: Task, format_: str) -> None:
    """Raise unless a photo of `format_` may be called as its output is.

    Raises:
        EncodeError: another format goes by that name.
    """
    if BY_SUFFIX[task.target.suffix.lower()].name != format_:
        raise EncodeError(
            f"the photo is a {format_} and stays one; {task.target.name} says otherwise"
        )
