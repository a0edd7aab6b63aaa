"""Cubemaps and dual fisheye pictures: where their pixels lie on the sphere, and views of them.

Both are pictures of the whole sphere in cells of one image, each a camera of its own: the six faces
of a cube, or two lenses back to back. Directions are those of `sphere.py`. Lenses see more than
half of the sphere each, so near their rim a plate is there twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.errors import PhotoDecodeError
from plateblur.letterbox import PAD_GREY
from plateblur.outlines import HALF_DIAGONAL_PX, Region, edges_around, filled
from plateblur.sphere import Rays, View
from plateblur.types import Image, Projection

LENS_DEGREES = 190  # of a fisheye lens; those of 360 degree cameras have 185 to 200
SAME_ASPECT = 0.02  # share by which cells may miss being square
RIM = 0.03  # of a lens's radius: so far beyond it pixels may still show something
INSIDE_PX = 0.02  # a point is kept so far inside its cell that float32 can't move it to the next
BAND_ROWS = 240  # of a view or a region that are worked out at a time
CELLS = 64  # across a face, in which an outline is looked for before its pixels are

# Right, down and ahead of each face, as rays. Source: FFmpeg's filter v360, which writes cubemaps
# in the order "rludfb" unless stated otherwise; crosses as most viewers take them. In an upright
# cross the back face is upside down, "v".
AXES = {
    "f": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "r": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "b": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "l": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "u": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "d": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "v": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
}
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cubemap": (
        ("rlu", "dfb"),
        ("rludfb",),
        ("r", "l", "u", "d", "f", "b"),
        (".u..", "lfrb", ".d.."),
        (".u.", "lfr", ".d.", ".v."),
    ),
    "dual-fisheye": (("fb",), ("f", "b")),
}

Maps = NDArray[np.float32]
FloatT = TypeVar("FloatT", bound=np.floating[Any])


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One camera's cell.

    Attributes:
        cell: left, top, right and bottom in pixels of the image.
        axes: (3, 3), its right, its down and its ahead as rays.
        half_angle: from its middle to the rim that touches its cell's edges, radians, for a
            fisheye lens, whose angles grow evenly with the distance; None for a face of a cube.
    """

    cell: tuple[float, float, float, float]
    axes: Rays
    half_angle: float | None

    @property
    def pixel_angle(self) -> float:
        """The largest angle between neighbouring pixels, radians."""
        across = 2 / (self.cell[2] - self.cell[0])
        return across if self.half_angle is None else across * self.half_angle

    def rays(self, xy: NDArray[np.floating]) -> Rays:
        """Return the directions, (..., 3) of length 1, of (..., 2) points of the image."""
        left, top, right, bottom = self.cell
        size = np.array([right - left, bottom - top])
        flat = (np.asarray(xy, np.float64) - [left, top]) / size * 2 - 1
        away = np.hypot(flat[..., 0], flat[..., 1])
        if self.half_angle is None:
            ahead, longer = np.ones_like(away), np.ones_like(away)
        else:
            angle = away * self.half_angle
            ahead = np.cos(angle)
            longer = np.sin(angle) / np.maximum(away, 1e-12)
            longer = np.where(away < 1e-9, self.half_angle, longer)
        rays = np.concatenate([flat * longer[..., None], ahead[..., None]], axis=-1) @ self.axes
        return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True), np.float64)

    def points(self, rays: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the (..., 2) points of the image, kept inside the cell, of (..., 3) directions."""
        left, top, right, bottom = self.cell
        across, down = self.shares(*np.moveaxis(np.asarray(rays, np.float64) @ self.axes.T, -1, 0))
        x = (left + across * (right - left)).clip(left + INSIDE_PX, right - INSIDE_PX)
        y = (top + down * (bottom - top)).clip(top + INSIDE_PX, bottom - INSIDE_PX)
        return np.stack([x, y], axis=-1)

    def shares(
        self, x: NDArray[FloatT], y: NDArray[FloatT], z: NDArray[FloatT]
    ) -> tuple[NDArray[FloatT], NDArray[FloatT]]:
        """Return where directions lie in the cell, as shares of its width and of its height.

        Args:
            x: how far to its right they go.
            y: how far down.
            z: how far ahead.
        """
        if self.half_angle is None:
            scale = 0.5 / np.maximum(z, 1e-6)
        else:
            away = np.maximum(np.hypot(x, y), 1e-12)
            scale = np.arctan2(away, z) / (2 * self.half_angle * away)
        return x * scale + 0.5, y * scale + 0.5

    def holds(self, xy: NDArray[np.floating], *, beyond: float = 0.0) -> NDArray[np.bool_]:
        """Return which (..., 2) points of the image it shows something at.

        Args:
            xy: pixels.
            beyond: share of a lens's radius that counts as its rim.
        """
        left, top, right, bottom = self.cell
        flat = (np.asarray(xy, np.float64) - [left, top]) / [right - left, bottom - top] * 2 - 1
        if self.half_angle is None:
            return np.asarray((np.abs(flat) <= 1).all(axis=-1), np.bool_)
        return np.asarray(np.hypot(flat[..., 0], flat[..., 1]) <= 1 + beyond, np.bool_)

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the pixels whose middles lie in the cell."""
        left, top, right, bottom = (math.ceil(side - 0.5) for side in self.cell)
        return left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What of a box lies in one face.

    Attributes:
        row: the box's index.
        face: where it lies.
        xyxy: (4,) pixels of the image.
    """

    row: int
    face: Face
    xyxy: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Where an image of several cameras lies on the sphere.

    Attributes:
        projection: "cubemap" or "dual-fisheye".
        image_hw: height and width of the image, pixels.
        faces: in no order that matters; together they see all of the sphere.
    """

    projection: Projection
    image_hw: tuple[int, int]
    faces: tuple[Face, ...]

    @property
    def focal_px(self) -> float:
        """Focal length of a view that loses nothing of a face's middle, pixels."""
        face = self.faces[0]
        side = face.cell[2] - face.cell[0]
        # As an equirectangular panorama of four faces all around: between a face's middle and edge.
        return 2 * side / math.pi if face.half_angle is None else side / 2 / face.half_angle

    def rays(self, xy: NDArray[np.floating]) -> Rays:
        """Return the directions, (..., 3) of length 1, of (..., 2) points of the image.

        Points in no face count as the nearest face's.
        """
        points = np.asarray(xy, np.float64)
        beyond = [
            np.maximum(np.maximum([left, top] - points, points - [right, bottom]).max(axis=-1), 0)
            for left, top, right, bottom in (face.cell for face in self.faces)
        ]
        nearest = np.argmin(beyond, axis=0)
        rays = np.zeros((*points.shape[:-1], 3))
        for number, face in enumerate(self.faces):
            rays[nearest == number] = face.rays(points[nearest == number])
        return rays

    def points(self, rays: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the (..., 2) points of the image of (..., 3) directions, each in one face."""
        owner = self.owners(rays)
        points = np.zeros((*owner.shape, 2))
        for number, face in enumerate(self.faces):
            points[owner == number] = face.points(np.asarray(rays)[owner == number])
        return points

    def owners(self, rays: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the number of the face that looks most directly in each of (..., 3) directions."""
        ahead = [np.asarray(rays, np.float64) @ face.axes[2] for face in self.faces]
        return np.asarray(np.argmax(ahead, axis=0), np.int64)

    def halved(self) -> Faces:
        """Return where an image of half the size lies."""
        height, width = self.image_hw
        smaller = max(1, height // 2), max(1, width // 2)
        across, down = smaller[1] / width, smaller[0] / height
        faces = (
            Face(
                (cell[0] * across, cell[1] * down, cell[2] * across, cell[3] * down),
                face.axes,
                face.half_angle,
            )
            for face in self.faces
            for cell in (face.cell,)
        )
        return Faces(self.projection, smaller, tuple(faces))

    def shows(self, view: View) -> bool:
        """Return whether some of the image may be in the view: it is in every one."""
        return True


def faces_of(image_hw: tuple[int, int], projection: Projection) -> Faces:
    """Return where the cells of an image lie on the sphere; its aspect tells how they are laid.

    Args:
        image_hw: height and width of the upright image, pixels.
        projection: "cubemap" or "dual-fisheye".

    Raises:
        PhotoDecodeError: no such layout has this aspect.
        ValueError: another projection.
    """
    if projection not in LAYOUTS:
        raise ValueError(f"projection must be one of {', '.join(LAYOUTS)}, got {projection!r}")
    height, width = image_hw
    for rows in LAYOUTS[projection]:
        down, across = height / len(rows), width / len(rows[0])
        if abs(across / down - 1) > SAME_ASPECT:
            continue
        half_angle = math.radians(LENS_DEGREES) / 2 if projection == "dual-fisheye" else None
        return Faces(
            projection,
            image_hw,
            tuple(
                Face(
                    (column * across, row * down, (column + 1) * across, (row + 1) * down),
                    np.array(AXES[name], np.float64),
                    half_angle,
                )
                for row, names in enumerate(rows)
                for column, name in enumerate(names)
                if name != "."
            ),
        )
    aspects = ", ".join(f"{len(rows[0])}:{len(rows)}" for rows in LAYOUTS[projection])
    raise PhotoDecodeError(
        f"expected a {projection} picture with an aspect of {aspects}, got {width} x {height}"
    )


def pictures(image: Image, faces: Faces, views: Sequence[View]) -> Iterator[tuple[View, Image]]:
    """Yield each view with its picture, (side_px, side_px, 3) uint8 RGB.

    Where two lenses see the same, the view comes once with the seam at the rim of each: what is
    near lies elsewhere in the other lens, so a plate has to be whole in one.
    """
    for view in views:
        for first in _firsts(view, faces):
            yield view, _picture(image, faces, view, first)


def _firsts(view: View, faces: Faces) -> list[int | None]:
    """Return which face is to come first, in each picture of a view."""
    at = np.linspace(0, view.side_px, 33)
    rays = view.rays(np.stack(np.meshgrid(at, at), axis=-1))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    seen = [
        rays @ face.axes[2] >= math.cos(face.half_angle)
        for face in faces.faces
        if face.half_angle is not None
    ]
    is_double = bool(seen) and bool((np.sum(seen, axis=0) > 1).any())
    return list(range(len(faces.faces))) if is_double else [None]


def _picture(image: Image, faces: Faces, view: View, first: int | None) -> Image:
    picture = np.full((view.side_px, view.side_px, 3), PAD_GREY, np.uint8)
    for at in range(0, view.side_px, BAND_ROWS):
        band = picture[at : at + BAND_ROWS]
        local = [_directions(view, face, at, len(band)) for face in faces.faces]
        owner = np.argmax([z for _, _, z in local], axis=0)
        if first is not None:
            x, y, z = local[first]
            half_angle = faces.faces[first].half_angle or 0.0
            owner[z >= math.cos(half_angle) * np.sqrt(x * x + y * y + z * z)] = first
        for number in np.unique(owner).tolist():
            face = faces.faces[number]
            left, top, right, bottom = face.bounds
            across, down = face.shares(*local[number])
            across = across * np.float32(face.cell[2] - face.cell[0])
            down = down * np.float32(face.cell[3] - face.cell[1])
            shown = cv2.remap(
                image[top:bottom, left:right],
                across + np.float32(face.cell[0] - left - 0.5),
                down + np.float32(face.cell[1] - top - 0.5),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            np.copyto(band, shown.astype(np.uint8, copy=False), where=(owner == number)[..., None])
    return picture


def _directions(view: View, face: Face, at: int, rows: int) -> tuple[Maps, Maps, Maps]:
    """Return how far to a face's right, down and ahead some rows of a view look, (rows, side_px).

    Of no particular length: one pixel of the view counts as 1.
    """
    turn = (view.axes @ face.axes.T).astype(np.float32)
    middle = np.float32(0.5 - view.side_px / 2)
    across = np.arange(view.side_px, dtype=np.float32) + middle
    down = np.arange(at, at + rows, dtype=np.float32)[:, None] + middle
    ahead = np.float32(view.focal_px)
    x, y, z = (across * turn[0, i] + (down * turn[1, i] + ahead * turn[2, i]) for i in range(3))
    return x, y, z


def parts_in_faces(xyxy: NDArray[np.floating], faces: Faces) -> tuple[list[Part], list[int]]:
    """Return boxes of the image cut where their faces end.

    Args:
        xyxy: (N, 4) pixels of the image.
        faces: of that image.

    Returns:
        The parts that lie in a face; and the indices of boxes of which something lies in none.
    """
    parts, beyond = list[Part](), list[int]()
    for row, box in enumerate(np.asarray(xyxy, np.float64)):
        left_over = float(np.prod(box[2:] - box[:2]))
        for face in faces.faces:
            low = np.maximum(box[:2], face.cell[:2])
            high = np.minimum(box[2:], face.cell[2:])
            corners = np.array([low, high, [low[0], high[1]], [high[0], low[1]]])
            if (low < high).all() and face.holds(corners, beyond=RIM).all():
                parts.append(Part(row, face, np.concatenate([low, high])))
                left_over -= float(np.prod(high - low))
        if left_over > 1:  # square pixel
            beyond.append(row)
    return parts, beyond


def regions_on(outline: Rays, faces: Faces) -> list[Region]:
    """Return the pixels inside (4, 3) rays of length 1: a region in each face that sees them."""
    middle = outline.sum(axis=0) / np.linalg.norm(outline.sum(axis=0))
    regions = []
    for face in faces.faces:
        # A pixel that is touched has its middle no farther off than half its diagonal.
        slack = math.sin(HALF_DIAGONAL_PX * face.pixel_angle)
        normals = edges_around(outline, dimensions=3, tolerance=slack / 2)
        radius = math.acos(min(1.0, float((outline @ middle).min()))) + 2 * slack
        bounds = _bounds_of_circle(face, middle, radius)
        if bounds is None:
            continue
        left, top, right, bottom = bounds
        mask = np.zeros((bottom - top, right - left), np.bool_)
        across = np.arange(left, right) + 0.5
        for at in range(0, len(mask), BAND_ROWS):
            band = mask[at : at + BAND_ROWS]
            down = np.arange(top + at, top + at + len(band)) + 0.5
            points = np.stack(np.meshgrid(across, down), axis=-1)
            rays = face.rays(points)
            band |= (rays @ normals.T >= -slack).all(axis=-1)
            band &= rays @ middle >= math.cos(radius)
            band &= face.holds(points, beyond=RIM)
        regions += filled(Region(left, top, mask))
    return regions


def _bounds_of_circle(face: Face, middle: Rays, radius: float) -> tuple[int, int, int, int] | None:
    """Return the pixels of a face that can lie within `radius` of a direction; None without any."""
    left, top, right, bottom = face.bounds
    if left >= right or top >= bottom:
        return None
    step = max(1, math.ceil(max(right - left, bottom - top) / CELLS))
    across, down = np.arange(left, right, step), np.arange(top, bottom, step)
    centres = np.stack(np.meshgrid(across + step / 2, down + step / 2), axis=-1)
    away = np.arccos((face.rays(centres) @ middle).clip(-1, 1))
    rows, columns = np.nonzero(away <= radius + HALF_DIAGONAL_PX * step * face.pixel_angle)
    if not len(rows):
        return None
    return (
        int(across[columns.min()]),
        int(down[rows.min()]),
        min(right, int(across[columns.max()]) + step),
        min(bottom, int(down[rows.max()]) + step),
    )
