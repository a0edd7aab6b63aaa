"""JSON logs, one object per line: references, ids and durations, never the content of a request."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

import orjson


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; what it has in `extra={"fields": ...}` comes last."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            # Only type and place, because an exception's message may contain what was sent.
            line["error"] = type(record.exc_info[1]).__name__
            line["where"] = where_raised(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def where_raised(error: BaseException) -> list[str]:
    """Return file, line and function of each frame of `error`, without values."""
    return [
        f"{Path(step.filename).name}:{step.lineno} {step.name}"
        for step in traceback.extract_tb(error.__traceback__)
    ]


def configure_logging(level: str) -> None:
    """Send all logs of this process to stderr as JSON lines.

    Libraries such as httpcore only log warnings, because their details contain URLs.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Its warnings quote bytes that were sent; the request's own line shows that it failed.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    for name in ("plateblur", "uvicorn.error"):
        logging.getLogger(name).setLevel(level.upper())
