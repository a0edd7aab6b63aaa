"""From which angles drawn plates are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from plateblur import drawn
from plateblur.sets.metrics import Floats, PhotoBoxes, figures, score_photos
from plateblur.types import Detector, Image
from training.evaluation.config import Config

DrawScene = Callable[[int, float, float], tuple[Image, Floats]]
"""From a seed and a plate's side and tilt angle in degrees: an image and its plates' `xyxy`."""

SIDE_DEGREES = (0, 15, 30, 45, 60)

TILT_DEGREES = (0, 10, 20, 30)
"""Angles of drawn plates, to either side; beyond them hardly anything of a plate can be read."""


def draw_one_plate(seed: int, side_deg: float, tilt_deg: float) -> tuple[Image, Floats]:
    """Return a drawn street by day with one plate within the guidance, and its box.

    Args:
        seed: the same vehicle and street at every angle.
        side_deg: how far the plate is turned away, seen from above; 0 is head-on.
        tilt_deg: how far the camera is turned about its axis.
    """
    scene = drawn.draw_scene(
        seed,
        image_hw=(720, 1280),
        plates=1,
        ratios=(1 / 14, 1 / 10),
        side_deg=(side_deg, side_deg),
        tilt_deg=(tilt_deg, tilt_deg),
    )
    return scene.image, scene.xyxy.astype(np.float64)


def recall_by_angle(detector: Detector, draw: DrawScene, config: Config) -> dict[str, Any]:
    """Return recall and covered99 of drawn plates by side angle and by tilt, the other being 0.

    Drawn plates show how angles change the result, not how good it is on photos.

    Args:
        detector: that is served.
        draw: makes a scene; its angles are drawn to either side in turn.
        config: whose blur options and number of scenes an angle count.
    """
    angles: dict[str, Any] = {}
    for kind, degrees in (("side", SIDE_DEGREES), ("tilt", TILT_DEGREES)):
        angles[kind] = {}
        for degree in degrees:
            drawn = []
            for seed in range(config.angles):
                turned = float(degree if seed % 2 == 0 else -degree)
                image, truth = draw(seed, *((turned, 0.0) if kind == "side" else (0.0, turned)))
                found = detector.detect(image, min_confidence=config.min_confidence)
                image_hw = (image.shape[0], image.shape[1])
                xyxy, confidence = found.xyxy.astype(float), found.confidence.astype(float)
                drawn.append(PhotoBoxes(image_hw, truth, xyxy, confidence))
            scores = score_photos(drawn, min_confidence=config.min_confidence, margin=config.margin)
            one = figures(scores)
            angles[kind][str(degree)] = {
                "plates": one.plates,
                "missed": asdict(one.missed),
                "covered99": asdict(one.covered99),
                "recall": asdict(one.recall),
                "mean_coverage": one.mean_coverage,
            }
    return angles
