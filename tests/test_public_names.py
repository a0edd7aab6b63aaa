"""The public names: listed, sorted, there, and no others by accident."""

from __future__ import annotations

import inspect
import typing

import plateblur
from plateblur import errors, types

PUBLIC = [
    "BlurOptions",
    "BlurredPhoto",
    "Boxes",
    "DetectionError",
    "Detections",
    "Detector",
    "Effort",
    "EncodeError",
    "Image",
    "MetadataPolicy",
    "Method",
    "ModelError",
    "OnnxDetector",
    "PhotoDecodeError",
    "PhotoError",
    "PhotoTooLargeError",
    "PlateblurError",
    "RunError",
    "Searched",
    "TooCostlyError",
    "VideoError",
    "WorkEndedError",
    "blur_photo",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert plateblur.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


def test_every_public_name_is_there() -> None:
    for name in PUBLIC:
        assert hasattr(plateblur, name), name


def test_every_error_of_the_tree_is_public() -> None:
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert tree <= set(PUBLIC)
    for name in tree - {"PlateblurError"}:
        assert issubclass(getattr(errors, name), errors.PlateblurError)


def test_public_functions_and_classes_are_documented_and_typed() -> None:
    for name in PUBLIC:
        value = getattr(plateblur, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
    assert "return" in typing.get_type_hints(plateblur.blur_photo)


def test_values_are_frozen() -> None:
    for value in (types.BlurOptions, types.BlurredPhoto, types.Detections):
        assert value.__setattr__ is not object.__setattr__, value
