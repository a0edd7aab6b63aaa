"""The drawn scenes, for whatever needs plates without a person's photo.

`from training.drawn import synthetic` gives the module `datasets/synthetic.py`. It is loaded from
its file because the name `datasets` belongs to another package wherever Hugging Face's is
installed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

FILE = Path(__file__).parents[1] / "datasets" / "synthetic.py"

if TYPE_CHECKING:
    from datasets import synthetic
else:
    NAME = "plateblur_drawn"  # registered, because a dataclass looks its own module up by name
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, FILE)
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    synthetic = sys.modules[NAME]

__all__ = ["FILE", "synthetic"]
