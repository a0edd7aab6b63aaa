"""Everything that can go wrong with the world's input; a caller's own bug is a `ValueError`.

    PlateblurError
    |-- PhotoError              the photo can't be taken
    |   |-- PhotoTooLargeError  more bytes or pixels than allowed, known before decoding
    |   `-- PhotoDecodeError    no photo, a damaged one, or a format that is not taken
    |-- VideoError              the clip can't be taken, or a frame of it can't be read
    |-- ModelError              the model file can't be used: damaged, or without its metadata
    |-- DetectionError          the detector failed; never an empty list of plates
    |-- EncodeError             the blurred image or clip could not be written
    |-- RunError                a run over many photos can't start: its manifest or place is unfit
    |-- TooCostlyError          the photo or clip needs more time or memory than it is given
    `-- WorkEndedError          nobody waits for the result any more, or the service is stopping

Messages say what was expected and what came. They hold no photo bytes, no paths of the server
and no plate text, so that they may be shown to whoever sent the photo.
"""

from __future__ import annotations


class PlateblurError(Exception):
    """Base of every error that a caller is expected to handle."""


class PhotoError(PlateblurError):
    """The photo can't be taken."""


class PhotoTooLargeError(PhotoError):
    """The photo has more bytes or pixels than allowed."""


class PhotoDecodeError(PhotoError):
    """The bytes are no photo, a damaged one, or of a format that is not taken."""


class VideoError(PlateblurError):
    """The clip can't be taken, or one of its frames can't be read."""


class ModelError(PlateblurError):
    """The model file can't be used."""


class DetectionError(PlateblurError):
    """The detector failed; the photo must not leave."""


class EncodeError(PlateblurError):
    """The blurred image could not be written."""


class TooCostlyError(PlateblurError):
    """The photo or clip needs more time or memory than it is given."""


class WorkEndedError(PlateblurError):
    """The work was ended because nobody waits for it any more; there is no result."""


class RunError(PlateblurError):
    """A run over many photos can't start: its manifest or its place can't be used."""
