from __future__ import annotations

import pytest

from plateblur.demo.camera import PLATES_MM, SENSORS_MM, farthest_m, plate_share


@pytest.mark.parametrize(
    ("plate_mm", "distance_m", "focal_mm", "sensor_mm", "tilt_deg", "share"),
    [
        (110, 10, 50, 24, 0, 0.11 / 10 * 50 / 24),
        (110, 10, 50, 24, 60, 0.11 / 10 * 50 / 24 / 2),
        (110, 5, 50, 24, 0, 0.11 / 10 * 50 / 24 * 2),
        (24, 1, 1000, 24, 0, 1.0),
    ],
    ids=["in front", "from above, half", "at half the distance, twice", "fills the picture"],
)
def test_a_plate_is_as_large_as_the_pinhole_camera_says(
    plate_mm: float,
    distance_m: float,
    focal_mm: float,
    sensor_mm: float,
    tilt_deg: float,
    share: float,
) -> None:
    computed = plate_share(
        plate_mm=plate_mm,
        distance_m=distance_m,
        focal_mm=focal_mm,
        sensor_mm=sensor_mm,
        tilt_deg=tilt_deg,
    )

    assert computed == pytest.approx(share)


@pytest.mark.parametrize("plate_mm", PLATES_MM.values(), ids=list(PLATES_MM))
@pytest.mark.parametrize("sensor_mm", SENSORS_MM.values(), ids=list(SENSORS_MM))
def test_at_the_farthest_distance_a_plate_is_just_large_enough(
    plate_mm: float, sensor_mm: float
) -> None:
    distance_m = farthest_m(
        1 / 15, plate_mm=plate_mm, focal_mm=12, sensor_mm=sensor_mm, tilt_deg=20
    )

    share = plate_share(
        plate_mm=plate_mm, distance_m=distance_m, focal_mm=12, sensor_mm=sensor_mm, tilt_deg=20
    )
    assert share == pytest.approx(1 / 15)


@pytest.mark.parametrize(
    "wrong",
    [{"distance_m": 0.0}, {"focal_mm": -1.0}, {"sensor_mm": float("nan")}, {"tilt_deg": 90.0}],
    ids=["no distance", "negative focal length", "nan", "straight from above"],
)
def test_what_no_camera_has_is_refused(wrong: dict[str, float]) -> None:
    camera = {"plate_mm": 110.0, "distance_m": 5.0, "focal_mm": 12.0, "sensor_mm": 3.1}

    with pytest.raises(ValueError, match=next(iter(wrong))):
        plate_share(**(camera | wrong))
