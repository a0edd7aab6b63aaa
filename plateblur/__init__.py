"""Find licence plates in photos and make them unreadable."""

from plateblur.detector import OnnxDetector
from plateblur.errors import (
    DetectionError,
    EncodeError,
    ModelError,
    PhotoDecodeError,
    PhotoError,
    PhotoTooLargeError,
    PlateblurError,
    RunError,
    TooCostlyError,
    VideoError,
    WorkEndedError,
)
from plateblur.pipeline import blur_photo
from plateblur.types import (
    BlurOptions,
    BlurredPhoto,
    Boxes,
    Detections,
    Detector,
    Effort,
    Image,
    MetadataPolicy,
    Method,
    Searched,
)

__all__ = [
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
