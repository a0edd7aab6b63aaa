"""The log: one JSON object a line, with what was asked for and nothing of what was sent."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from plateblur.web import logs

PACKAGE = Path(logs.__file__).parents[1]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@pytest.fixture
def untouched() -> Iterator[None]:
    """Put the loggers back as they were, because the whole process shares them."""
    names = ("", "plateblur", "uvicorn.error", "python_multipart")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def line_of(record: logging.LogRecord) -> dict[str, object]:
    text = logs.JsonLines().format(record)
    assert "\n" not in text
    line: dict[str, object] = orjson.loads(text)
    return line


def record_of(**more: object) -> logging.LogRecord:
    return logging.getLogger("plateblur").makeRecord(
        "plateblur", logging.WARNING, "a.py", 7, "an event of %s", ("a kind",), None, extra=more
    )


def test_a_line_says_when_how_grave_where_and_what() -> None:
    record = record_of(fields={"reference": "r1", "where_to": Path("/x")})
    record.created = 86_400.25
    assert line_of(record) == {
        "at": "1970-01-02T00:00:00.250+00:00",
        "level": "warning",
        "logger": "plateblur",
        "event": "an event of a kind",
        "reference": "r1",
        "where_to": "/x",
    }


def test_an_error_is_logged_by_its_type_and_place_and_without_its_message() -> None:
    record = record_of()
    try:
        raise ValueError("plate AB 123")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = line_of(record)
    assert line["error"] == "ValueError"
    assert isinstance(line["where"], list)
    (place,) = line["where"]
    assert place.startswith("test_logs.py:")
    assert place.endswith(" test_an_error_is_logged_by_its_type_and_place_and_without_its_message")
    assert "AB 123" not in orjson.dumps(line).decode()


def test_our_own_events_are_logged_and_only_warnings_of_others(
    untouched: None, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging("info")
    logging.getLogger("plateblur.web").info("ours")
    logging.getLogger("plateblur.web").debug("too much")
    logging.getLogger("httpcore").info("https://secret.example")
    logging.getLogger("httpcore").warning("theirs")
    logging.getLogger("python_multipart").warning("bytes that were sent")
    events = [orjson.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["ours", "theirs"]


@pytest.mark.slow
def test_whoever_logs_more_than_an_event_says_it_in_fields() -> None:
    """`JsonLines` writes nothing else, so other keys would be lost."""
    keys = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in LEVELS:
                continue
            for more in (one.value for one in node.keywords if one.arg == "extra"):
                assert isinstance(more, ast.Dict), path
                keys |= {ast.unparse(key) for key in more.keys if key is not None}
    assert keys == {"'fields'"}
