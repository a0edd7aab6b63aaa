"""Drawn street scenes whose plates are known to the pixel: for tests, examples and the smoke run.

Nothing in a scene comes from a photo or the internet: vehicles are lofted from a few profiles,
streets and plates are painted, and one pinhole camera sees them all, so a plate's corners are
computed and never guessed. Every random choice comes from one `numpy.random.Generator` made from
the seed: the same seed, arguments and versions of NumPy, OpenCV and Pillow give the same bits.

Metres are right (x), up (y) and away from the camera (z); a vehicle's own z starts at the end
that carries the plate. The files, from the small to the whole:

    chance, light, lettering    random choices; colours and daylight; letters
    plates, camera, vehicles    flat plates; the camera; shapes of vehicles
    ends, bodywork              a vehicle's end and the rest of it, painted
    houses, surroundings        everything behind and beside the vehicles
    placing, scene              where everything goes; the finished image
    traffic                     vehicles that drive along a road, frame by frame
    dataset, examples           a data set of scenes; six chosen ones
"""

from plateblur.drawn.dataset import write_set
from plateblur.drawn.examples import EXAMPLES, LYING, write_examples
from plateblur.drawn.plates import REGIONS, Plate, draw_plate
from plateblur.drawn.scene import Scene, draw_scene, encode
from plateblur.drawn.traffic import Driver, draw_traffic

__all__ = [
    "EXAMPLES",
    "LYING",
    "REGIONS",
    "Driver",
    "Plate",
    "Scene",
    "draw_plate",
    "draw_scene",
    "draw_traffic",
    "encode",
    "write_examples",
    "write_set",
]
