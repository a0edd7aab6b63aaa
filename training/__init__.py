"""Training the detector, from data to the shipped model; `python -m training` lists the steps."""

import os

# Nothing calls home. ultralytics otherwise reports each run to its makers, looks up hosts of Google
# and Cloudflare and asks PyPI for newer versions, and albumentations asks PyPI too. Both read this
# once, while they are imported. Weights that a config or `--weights` names are still downloaded.
for _name, _value in (("YOLO_OFFLINE", "True"), ("NO_ALBUMENTATIONS_UPDATE", "1")):
    os.environ.setdefault(_name, _value)  # noqa: TID251 - neither has another switch
