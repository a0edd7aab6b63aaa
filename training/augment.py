"""Transforms for training that imitate what happens to plates in photos, each with a drawn example.

    python -m training.augment --out runs/augmentations.png

`Config.augmentation` of `training/train.py` names one of the lists. Mosaic, scale, tilt and
perspective of the whole picture come from ultralytics; the sheet shows them too, so that you
see everything that a detector is trained on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812 - the name its own documentation uses
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from plateblur import drawn
from plateblur.types import Image
from training.checkout import run_step

PAD_GREY = 114  # Source: ultralytics' fill of mosaic and letterbox; the detector pads with it too.

Box = tuple[float, float, float, float]
"""`xyxy` of one plate, pixels."""


def first_augmentations() -> list[A.BasicTransform]:
    """Return the transforms of the first runs: pixels only.

    Grey comes first because all our photos without plates are grey: without grey plates the
    detector would learn that grey photos have none.
    """
    return [
        A.ToGray(p=0.12),
        A.OneOf(
            [A.MotionBlur(blur_limit=(3, 9)), A.GaussianBlur(blur_limit=(3, 7))],
            p=0.12,
        ),
        A.Downscale(scale_range=(0.4, 0.8), p=0.06),
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.15),
        A.RandomGamma(gamma_limit=(50, 160), p=0.1),
        A.ISONoise(p=0.06),
        A.ImageCompression(quality_range=(35, 95), p=0.15),
    ]


def plate_augmentations() -> list[A.BasicTransform]:
    """Return the transforms for plates: camera, light, weather, and plates cut or covered.

    Each one is rare, so that most pictures stay as they are.
    """
    return [
        Farther(p=0.10),
        CutAtEdge(p=0.08),
        PartlyCovered(p=0.08),
        A.ToGray(p=0.10),
        Infrared(p=0.03),
        A.OneOf(
            [
                A.MotionBlur(blur_limit=(3, 11)),
                A.Defocus(radius=(1, 3), alias_blur=(0.1, 0.3)),
                A.GaussianBlur(blur_limit=(3, 7)),
            ],
            p=0.15,
        ),
        A.Downscale(scale_range=(0.4, 0.8), p=0.06),
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.15),
        A.OneOf([A.RandomGamma(gamma_limit=(50, 160)), LowLight()], p=0.12),
        A.RandomRain(brightness_coefficient=0.85, blur_value=3, drop_width=1, p=0.03),
        Glare(p=0.05),
        A.ISONoise(p=0.06),
        A.ImageCompression(quality_range=(30, 95), p=0.18),
    ]


def any_way_augmentations() -> list[A.BasicTransform]:
    """Return the transforms for plates, and for turned or tilted photos and close-ups.

    Most pictures stay upright, because most photos are.
    """
    return [
        A.OneOf(
            [QuarterTurn(p=0.7), A.Affine(rotate=(-45, 45), fill=PAD_GREY, p=0.3)],
            p=0.36,
        ),
        Closer(p=0.12),
        Repainted(p=0.10),
        A.MotionBlur(blur_limit=(9, 31), p=0.06),
        *plate_augmentations(),
    ]


LISTS: dict[str, Callable[[], list[A.BasicTransform]]] = {
    "first": first_augmentations,
    "plates": plate_augmentations,
    "any-way": any_way_augmentations,
}
"""By the name that a config gives."""


class Infrared(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """A grey picture with a bright middle and dark corners, as infrared lamps light it at night."""

    def apply(self, img: Image, darker: float = 0.6, **_: Any) -> Image:
        """Return the picture lit like that; its corners lose the share `darker` of the light."""
        y, x = np.mgrid[-1 : 1 : img.shape[0] * 1j, -1 : 1 : img.shape[1] * 1j]
        light = 1 - darker * np.clip(np.hypot(x, y), 0, 1) ** 2
        grey = cv2.cvtColor(img, cv2.COLOR_RGB2GRAY) * light
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)

    def get_params(self) -> dict[str, Any]:
        """Draw how much darker the corners are."""
        return {"darker": self.py_random.uniform(0.4, 0.8)}


class LowLight(A.ImageOnlyTransform):  # type: ignore[misc]
    """A dark picture with the noise that a camera adds when it is dark."""

    def apply(self, img: Image, light: float = 0.3, noise_seed: int = 0, **_: Any) -> Image:
        """Return the picture with a share of its light, plus noise."""
        cv2.setRNGSeed(noise_seed)
        # As arrays, because plain numbers would be those of the first channel alone.
        noise = cv2.randn(np.empty(img.shape, np.int16), np.zeros(1), np.full(1, 6.0))
        dark = cv2.addWeighted(img.astype(np.int16), light, noise, 1, 0, dtype=cv2.CV_8U)
        return dark.astype(np.uint8, copy=False)

    def get_params(self) -> dict[str, Any]:
        """Draw the share of light, and the noise."""
        return {
            "light": self.py_random.uniform(0.2, 0.5),
            "noise_seed": self.py_random.getrandbits(31),  # OpenCV takes an int
        }


class _AtPlate(A.DualTransform):  # type: ignore[misc]
    """Something that happens to one of the plates; boxes stay unless a subclass moves them."""

    _targets = (Targets.IMAGE, Targets.BBOXES, Targets.KEYPOINTS)

    def apply_to_bboxes(self, bboxes: NDArray[np.float32], **_: Any) -> NDArray[np.float32]:
        """Return the boxes as they are."""
        return bboxes

    def apply_to_keypoints(self, keypoints: NDArray[np.float32], **_: Any) -> NDArray[np.float32]:
        """Return them unchanged: our sets have none, and ultralytics passes an empty list."""
        return keypoints

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Choose a plate and, in the subclass, what happens to it; nothing without plates."""
        height, width = params["shape"][:2]
        plates = np.asarray(data.get("bboxes", np.zeros((0, 4))))[:, :4]
        if len(plates) == 0:
            return {}
        shares = plates[self.py_random.randrange(len(plates))]
        x1, y1, x2, y2 = (shares * [width, height, width, height]).tolist()
        return self.draw((x1, y1, x2, y2), (height, width))

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Return the arguments of `apply`, from a plate's `xyxy` in pixels."""
        raise NotImplementedError


class Glare(_AtPlate):
    """A round glare on a plate, as from a flash, a lamp or the low sun."""

    def apply(
        self, img: Image, centre: tuple[float, float] = (0, 0), reach_px: float = 0, **_: Any
    ) -> Image:
        """Return the picture with light added that falls off from the centre."""
        if reach_px == 0:
            return img
        across, down = (
            np.exp(-((np.arange(side, dtype=np.float32) - at) ** 2) / (2 * reach_px**2))
            for side, at in zip((img.shape[1], img.shape[0]), centre, strict=True)
        )
        light = cv2.merge([255 * np.outer(down, across)] * 3)  # a Gaussian is separable
        return cv2.add(img, light, dtype=cv2.CV_8U).astype(np.uint8, copy=False)

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw where on the plate it is, and how far it reaches."""
        x1, y1, x2, y2 = plate
        centre = (self.py_random.uniform(x1, x2), self.py_random.uniform(y1, y2))
        return {"centre": centre, "reach_px": self.py_random.uniform(0.1, 0.35) * (x2 - x1)}


class Repainted(_AtPlate):
    """A plate in another colour: turquoise, yellow, red, green and blue plates are rare in sets."""

    def apply(
        self,
        img: Image,
        plate: Box = (0, 0, 0, 0),
        colour: tuple[int, int, int] = (255, 255, 255),
        inverted: bool = False,
        **_: Any,
    ) -> Image:
        """Return the picture with the plate's light parts in `colour`.

        Args:
            img: (H, W, 3) uint8 RGB.
            plate: `xyxy` in pixels.
            colour: what white becomes, RGB.
            inverted: the plate's dark parts take the colour instead, and the light ones stay.
        """
        x1, y1, x2, y2 = (max(round(edge), 0) for edge in plate)
        inside = img[y1:y2, x1:x2]
        if inside.size == 0:
            return img
        light = inside.mean(axis=2, keepdims=True) / 255
        paint = np.array(colour, np.float32)
        mixed = 255 * light + paint * (1 - light) if inverted else paint * light
        painted = img.copy()
        painted[y1:y2, x1:x2] = mixed.clip(0, 255).astype(np.uint8)
        return painted

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw the colour, of any hue and strong, and whether it is that of the ground."""
        hue = self.py_random.randrange(180)
        hsv = [hue, self.py_random.randint(110, 240), self.py_random.randint(90, 255)]
        strong = np.array([[hsv]], np.uint8)
        red, green, blue = cv2.cvtColor(strong, cv2.COLOR_HSV2RGB)[0, 0].tolist()
        return {
            "plate": plate,
            "colour": (red, green, blue),
            "inverted": self.py_random.random() < 0.4,
        }


class PartlyCovered(_AtPlate):
    """A post, a leaf or a bumper in front of a part of a plate; the label is still the whole."""

    def apply(
        self, img: Image, cover: Box = (0, 0, 0, 0), colour: tuple[int, ...] = (0, 0, 0), **_: Any
    ) -> Image:
        """Return the picture with a plain rectangle in it."""
        x1, y1, x2, y2 = (max(round(edge), 0) for edge in cover)
        covered = img.copy()
        covered[y1:y2, x1:x2] = colour
        return covered

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw which side is covered, how far, and a dull colour."""
        x1, y1, x2, y2 = plate
        wide, high = x2 - x1, y2 - y1
        share = self.py_random.uniform(0.15, 0.45)
        cover = self.py_random.choice(
            [
                (x1 - wide / 2, y1 - high, x1 + share * wide, y2 + high),
                (x2 - share * wide, y1 - high, x2 + wide / 2, y2 + high),
                (x1 - wide / 2, y2 - share * high, x2 + wide / 2, y2 + high),
            ]
        )
        shade = self.py_random.randint(20, 120)
        return {
            "cover": cover,
            "colour": tuple(shade + self.py_random.randint(-15, 15) for _ in range(3)),
        }


class _Moved(_AtPlate):
    """A picture scaled and shifted as a whole, its boxes with it; empty areas are grey."""

    def apply(
        self, img: Image, scale: float = 1, shift: tuple[float, float] = (0, 0), **_: Any
    ) -> Image:
        """Return the picture of the same size, moved."""
        height, width = img.shape[:2]
        small = cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
        moved = cv2.warpAffine(small, matrix, (width, height), borderValue=(PAD_GREY,) * 3)
        return moved.astype(np.uint8)

    def apply_to_bboxes(
        self,
        bboxes: NDArray[np.float32],
        scale: float = 1,
        shift: tuple[float, float] = (0, 0),
        **params: Any,
    ) -> NDArray[np.float32]:
        """Return the boxes moved with it, as shares; albumentations clips them to the picture."""
        height, width = params["shape"][:2]
        moved = bboxes.copy()
        moved[:, [0, 2]] = bboxes[:, [0, 2]] * scale + shift[0] / width
        moved[:, [1, 3]] = bboxes[:, [1, 3]] * scale + shift[1] / height
        return moved


class Farther(_Moved):
    """The whole picture at 0.35 to 0.7 of its size, for plates that are far away."""

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw the scale, and the position of the small picture."""
        scale = self.py_random.uniform(0.35, 0.7)
        down, right = (self.py_random.uniform(0, 1 - scale) * side for side in image_hw)
        return {"scale": scale, "shift": (right, down)}


class CutAtEdge(_Moved):
    """The picture shifted until its edge cuts a plate; the label is the visible part."""

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw the share of the plate that stays visible; the nearest edge cuts it.

        A far edge would make a picture of almost nothing but fill.
        """
        (x1, y1, x2, y2), (height, width) = plate, image_hw
        cut = 1 - self.py_random.uniform(0.35, 0.75)
        shifts = [
            (-(x1 + cut * (x2 - x1)), 0.0),
            (width - (x2 - cut * (x2 - x1)), 0.0),
            (0.0, height - (y2 - cut * (y2 - y1))),
        ]
        return {"shift": min(shifts, key=lambda shift: abs(shift[0]) + abs(shift[1]))}


class Closer(_Moved):
    """The picture enlarged around a plate until that fills 30 to 105 percent of the width."""

    def apply(
        self, img: Image, scale: float = 1, shift: tuple[float, float] = (0, 0), **_: Any
    ) -> Image:
        """Return the picture of the same size, enlarged."""
        height, width = img.shape[:2]
        matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
        moved = cv2.warpAffine(img, matrix, (width, height), borderValue=(PAD_GREY,) * 3)
        return moved.astype(np.uint8)

    def draw(self, plate: Box, image_hw: tuple[int, int]) -> dict[str, Any]:
        """Draw the scale and the position of the plate, which never gets too small to see."""
        x1, y1, x2, y2 = plate
        fill = self.py_random.uniform(0.3, 1.05)
        scale = min(fill * image_hw[1] / (x2 - x1), 0.98 * image_hw[0] / (y2 - y1), 12.0)
        shift = []
        for low, high, side in ((x1, x2, image_hw[1]), (y1, y2, image_hw[0])):
            room = side - scale * (high - low)
            shift.append(self.py_random.uniform(min(0, room), max(0, room)) - scale * low)
        return {"scale": max(scale, 1.0), "shift": tuple(shift)} if scale > 1 else {}


class QuarterTurn(A.RandomRotate90):  # type: ignore[misc]
    """The picture turned by 90, 180 or 270 degrees, like a photo that lost its orientation."""

    def get_params(self) -> dict[str, int]:
        """Draw how many quarters; never none."""
        return {"factor": self.py_random.choice((1, 1, 2, 3, 3))}


def require_augmentations(dataset: Any, expected: list[dict[str, Any]] | None) -> None:
    """Refuse a dataset that doesn't apply exactly our transforms.

    ultralytics keeps transforms as dictionaries and builds them again in the process that trains,
    which with several GPUs is another one. If that fails, it logs a line and trains without any.

    Args:
        dataset: ultralytics' dataset of the train split.
        expected: the transforms as `albumentations.to_dict` writes them.

    Raises:
        RuntimeError: the dataset has others, or none were expected.
    """
    found = [
        A.to_dict(transform)
        for step in _flat(dataset.transforms)
        for transform in getattr(getattr(step, "transform", None), "transforms", ())
        if isinstance(transform, A.BasicTransform | A.BaseCompose)
    ]
    if not expected or _plain(found) != _plain(expected):
        raise RuntimeError(
            f"training would run without some of its augmentations: expected "
            f"{_names(expected or []) or 'a list of them'}, the dataset has {_names(found)}. A "
            "transform of training/augment.py must come back from albumentations.from_dict: its "
            "__init__ takes what its parent stores"
        )


def _flat(steps: Any) -> list[Any]:
    """Return ultralytics' transforms one by one, including those inside compositions."""
    inner = getattr(steps, "transforms", None)
    if not isinstance(inner, list):
        return [steps]
    return [one for step in inner for one in _flat(step)]


def _plain(transforms: list[dict[str, Any]]) -> Any:
    """Return them with lists for tuples and floats for whole numbers, because both forms occur."""
    return json.loads(json.dumps(transforms), parse_int=float)


def _names(transforms: list[dict[str, Any]]) -> list[str]:
    return [str(one["transform"]["__class_fullname__"]).split(".")[-1] for one in transforms]


# The sheet

CELL_PX = 320  # width of one example
COLUMNS = 4


def examples(seed: int = 0) -> list[tuple[str, Image, NDArray[np.float64]]]:
    """Return a name, a drawn scene and its boxes for each transform, applied for certain.

    Args:
        seed: of the scene and of all random choices.
    """
    image, xyxy = _drawn_scene(seed)
    steps: list[tuple[str, A.BasicTransform]] = [
        (type(step).__name__, step)
        for listed in plate_augmentations()
        for step in (listed.transforms if isinstance(listed, A.OneOf) else [listed])
    ]
    steps.append(("tilt, perspective (ultralytics)", A.Perspective(scale=(0.05, 0.08))))
    shown = [("as drawn", image, xyxy)]
    for name, step in steps:
        step.p = 1.0
        moves = isinstance(step, A.DualTransform)
        boxes = A.BboxParams(format="pascal_voc", label_fields=[]) if moves else None
        made = A.Compose([step], bbox_params=boxes, seed=seed)(image=image, bboxes=xyxy)
        shown.append((name, made["image"], np.asarray(made["bboxes"]).reshape(-1, 4)))
    return [*shown, ("mosaic (ultralytics)", *_mosaic(seed))]


def _mosaic(seed: int) -> tuple[Image, NDArray[np.float64]]:
    """Return four scenes side by side at half their size, as mosaic joins photos."""
    tiles, boxes = [], []
    for place in range(4):
        image, xyxy = _drawn_scene(seed + place)
        height, width = image.shape[:2]
        tiles.append(cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
        offset = np.array([place % 2 * width // 2, place // 2 * height // 2] * 2)
        boxes.append(xyxy / 2 + offset)
    rows = [np.hstack(tiles[:2]), np.hstack(tiles[2:])]
    return np.vstack(rows).astype(np.uint8), np.vstack(boxes)


def _drawn_scene(seed: int) -> tuple[Image, NDArray[np.float64]]:
    scene = drawn.draw_scene(seed, image_hw=(480, 640), plates=1, ratios=(1 / 10, 1 / 8))
    return scene.image, scene.xyxy.astype(np.float64)


def draw_sheet(path: Path) -> None:
    """Write a picture of every transform on drawn scenes, labels outlined."""
    shown = examples()
    cell_hw = (CELL_PX * 3 // 4, CELL_PX)
    caption_px = 18
    rows = -(-len(shown) // COLUMNS)
    sheet = PillowImage.new("RGB", (COLUMNS * cell_hw[1], rows * (cell_hw[0] + caption_px)))
    for place, (name, image, xyxy) in enumerate(shown):
        scale = cell_hw[1] / image.shape[1]
        cell = PillowImage.fromarray(image).resize((cell_hw[1], cell_hw[0]))
        pen = ImageDraw.Draw(cell)
        for box in (xyxy * scale).tolist():
            pen.rectangle(tuple(box), outline="#E69F00", width=2)
        left, top = place % COLUMNS * cell_hw[1], place // COLUMNS * (cell_hw[0] + caption_px)
        sheet.paste(cell, (left, top + caption_px))
        ImageDraw.Draw(sheet).text((left + 3, top + 3), name, fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> None:
    """Read the command line and draw the sheet."""
    parser = argparse.ArgumentParser(description="Draw a sheet of what training does to pictures.")
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    draw_sheet(parser.parse_args().out)


if __name__ == "__main__":
    run_step(main)
