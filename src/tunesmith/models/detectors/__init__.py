"""Detectors of torchvision and transformers: loaded with the person's classes, trained, asked, written and read.

`load.py` is the way in.
"""

from tunesmith.models.detectors.anatomy import Parts, find_parts
from tunesmith.models.detectors.detect import detect, detector_losses
from tunesmith.models.detectors.files import read_detector, write_detector
from tunesmith.models.detectors.load import load_detector
from tunesmith.models.detectors.locate import locate_detector
from tunesmith.models.detectors.spec import DetectorOptions

__all__ = [
    "DetectorOptions",
    "Parts",
    "detect",
    "detector_losses",
    "find_parts",
    "load_detector",
    "locate_detector",
    "read_detector",
    "write_detector",
]
