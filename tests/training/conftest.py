"""Training tests ask no hub for weights, whether they train here or in a process of their own."""

import os

# While it is imported, ultralytics reads from there whether it may go online.
os.environ.setdefault("YOLO_OFFLINE", "True")  # noqa: TID251
