"""What an event of the demo's page carries; all of it can be anything."""

from __future__ import annotations

from typing import Any, get_args

import gradio as gr

from plateblur.pipeline import DEFAULTS
from plateblur.types import BlurOptions, Effort, MetadataPolicy, Method

UNKNOWN_SETTINGS = "Invalid settings."


def options_of(
    method: Method,
    margin: float,
    min_confidence: float,
    draw_boxes: bool,
    metadata: MetadataPolicy,
    effort: Effort = DEFAULTS.effort,
) -> BlurOptions:
    """Return the controls' values as what the blur takes.

    Raises:
        gr.Error: they are none that the controls have.
    """
    numbers = [each for each in (margin, min_confidence) if type(each) in (int, float)]
    if (
        method not in get_args(Method)
        or metadata not in get_args(MetadataPolicy)
        or effort not in get_args(Effort)
        or type(draw_boxes) is not bool
        or len(numbers) != 2
        or not 0 <= margin <= 1
    ):
        raise gr.Error(UNKNOWN_SETTINGS, print_exception=False)
    try:
        return BlurOptions(
            method=method,
            margin=margin,
            min_confidence=min_confidence,
            draw_boxes=draw_boxes,
            metadata=metadata,
            effort=effort,
        )
    except ValueError as error:
        raise gr.Error(UNKNOWN_SETTINGS, print_exception=False) from error


def event_value(event: gr.EventData, name: str) -> Any:
    """Return a value of an event's data, or None."""
    return event._data.get(name) if isinstance(event._data, dict) else None


def session_of(request: gr.Request) -> str:
    """Return the name of an open page."""
    return request.session_hash or ""
