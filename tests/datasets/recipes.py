"""The recipes as modules, under the names that they have for each other.

They are scripts: where one runs, its own folder is on the path, so here it is too. The folder is
no package, because the name `datasets` belongs to Hugging Face's wherever that is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import (
        ccpd,
        corrected,
        fetch,
        folder,
        layout,
        merge,
        openimages,
        openlpr,
        redraw,
        refit,
        review,
        robertlucian,
        rodosol_alpr,
        ufpr_alpr,
    )
else:
    sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))
    import ccpd
    import corrected
    import fetch
    import folder
    import layout
    import merge
    import openimages
    import openlpr
    import redraw
    import refit
    import review
    import robertlucian
    import rodosol_alpr
    import ufpr_alpr

__all__ = [
    "ccpd",
    "corrected",
    "fetch",
    "folder",
    "layout",
    "merge",
    "openimages",
    "openlpr",
    "redraw",
    "refit",
    "review",
    "robertlucian",
    "rodosol_alpr",
    "ufpr_alpr",
]
