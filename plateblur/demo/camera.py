"""How large a plate is in a picture: the pinhole camera, for the guidance's slider.

Source: R. Hartley, A. Zisserman, "Multiple View Geometry in Computer Vision", 2nd ed., 2004, 6.1:
a length L at a distance Z across the view is f L / Z long on the sensor. A lens's distortion and a
plate away from the middle of the picture are left out.
"""

from __future__ import annotations

import math

# Source: heights in mm. German FZV, annex 4: 520 x 110 in one row, 280 x 200 in two; SAE J686 for
# North America: 12 x 6 inches.
PLATES_MM = {
    "Europe, one row (110 mm)": 110.0,
    "Two rows (200 mm)": 200.0,
    "North America (152 mm)": 152.4,
}

# Heights of sensors in landscape, mm, as makers round them; 16:9 for the first two, which are usual
# in traffic cameras, and 4:3 for telephones.
SENSORS_MM = {
    '1/2.8" camera (3.1 mm high)': 3.1,
    '1/1.8" camera (4.3 mm high)': 4.3,
    '1/1.28" telephone (7.3 mm high)': 7.3,
    "APS-C (15.6 mm high)": 15.6,
    "Full frame (24 mm high)": 24.0,
}

# What the page's controls give: focal length in mm, distance in m, tilt in degrees, picture in px.
RANGES = ((2, 200), (1, 60), (0, 60), (1, 10_000))


def plate_share(
    *,
    plate_mm: float,
    distance_m: float,
    focal_mm: float,
    sensor_mm: float,
    tilt_deg: float = 0.0,
) -> float:
    """Return the plate's height as a share of the picture's height.

    Args:
        plate_mm: height of the plate.
        distance_m: from the lens to the plate.
        focal_mm: focal length, the real one and not its "35 mm equivalent".
        sensor_mm: height of the sensor.
        tilt_deg: how far the camera looks down on the plate; it shortens the plate by its cosine.

    Raises:
        ValueError: a length that is not above 0, or a tilt outside 0 to 90.
    """
    lengths = {"plate_mm": plate_mm, "distance_m": distance_m}
    lengths |= {"focal_mm": focal_mm, "sensor_mm": sensor_mm}
    for name, length in lengths.items():
        if not length > 0:
            raise ValueError(f"{name} must be above 0, got {length}")
    if not 0 <= tilt_deg < 90:
        raise ValueError(f"tilt_deg must be from 0 to below 90, got {tilt_deg}")
    on_sensor_mm = focal_mm * plate_mm * math.cos(math.radians(tilt_deg)) / (distance_m * 1000)
    return on_sensor_mm / sensor_mm


def farthest_m(
    share: float, *, plate_mm: float, focal_mm: float, sensor_mm: float, tilt_deg: float = 0.0
) -> float:
    """Return the distance in metres at which a plate takes up `share` of the picture's height.

    Args:
        share: above 0.
        plate_mm: as for `plate_share`, like the others.
        focal_mm: focal length.
        sensor_mm: height of the sensor.
        tilt_deg: how far the camera looks down.
    """
    at_one_metre = plate_share(
        plate_mm=plate_mm, distance_m=1, focal_mm=focal_mm, sensor_mm=sensor_mm, tilt_deg=tilt_deg
    )
    return at_one_metre / share
