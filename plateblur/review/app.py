"""The workspace as a web application: one page, its data as JSON, its pictures as JPEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from plateblur.errors import PlateblurError
from plateblur.review.guard import Guard
from plateblur.review.pictures import LONGEST_SIDE, MEDIA_TYPE, Part, Pictures
from plateblur.review.sent import InvalidError
from plateblur.review.workspace import Workspace, as_sent, reason
from plateblur.runs.review_log import ConflictError
from plateblur.types import Image

ASSETS = Path(__file__).parent / "assets"
# A blurred thumbnail may stay in the browser: its address changes with its content.
KEPT = {"Cache-Control": "private, max-age=86400, immutable"}


def create_app(workspace: Workspace, *, port: int, token: str) -> ASGIApp:
    """Return the application, guarded.

    Args:
        workspace: an open run.
        port: that it will be served on.
        token: that the first address must have.
    """
    pictures = Pictures()

    def page(_: Request) -> Response:
        return FileResponse(ASSETS / "review.html")

    def about(_: Request) -> Response:
        return JSONResponse(workspace.about())

    def photos(_: Request) -> Response:
        return JSONResponse(workspace.photos())

    def changes(request: Request) -> Response:
        query = request.query_params
        since, size = _whole(query.get("since")), _whole(query.get("size"))
        return JSONResponse(workspace.changed(since, size))

    async def photo(request: Request) -> Response:
        number = request.path_params["number"]
        if request.method == "GET":
            return JSONResponse(await run_in_threadpool(workspace.photo, number))
        try:
            sent = json.loads(await request.body())
        except ValueError as error:
            raise InvalidError("The page sent something that makes no sense.") from error
        if not isinstance(sent, dict):
            raise InvalidError("The page sent something that makes no sense.")
        try:
            return JSONResponse(await run_in_threadpool(workspace.save, number, sent))
        except ConflictError as conflict:
            return JSONResponse(as_sent(conflict.current), 409)

    def times(request: Request) -> Response:
        return JSONResponse({"times_us": workspace.times_us(request.path_params["number"])})

    def thumb(request: Request) -> Response:
        made = pictures.thumb(workspace.output(request.path_params["number"]))
        return Response(made, media_type=MEDIA_TYPE, headers=KEPT)

    def picture(request: Request) -> Response:
        number, is_before = request.path_params["number"], request.path_params["side"] == "before"
        query = request.query_params
        part, longest, at = query.get("part"), query.get("longest"), query.get("at")
        shown: bytes | Image
        if at is None:
            shown = workspace.before(number) if is_before else workspace.after(number)
        else:
            show = workspace.frame_before if is_before else workspace.frame_after
            shown = show(number, _whole(at.removeprefix("-")) * (-1 if at[:1] == "-" else 1))
        most = LONGEST_SIDE if longest is None else min(LONGEST_SIDE, max(1, _whole(longest)))
        made = pictures.picture(shown, None if part is None else _part(part), longest=most)
        return Response(made, media_type=MEDIA_TYPE)

    async def failed(_: Request, error: Exception) -> Response:
        status = 422 if isinstance(error, InvalidError) else 404
        return JSONResponse({"error": reason(error)}, status)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/run", about),
            Route("/api/photos", photos),
            Route("/api/changes", changes),
            Route("/api/photos/{number:int}", photo, methods=["GET", "PUT"]),
            Route("/api/photos/{number:int}/times", times),
            Route("/photos/{number:int}/thumb", thumb),
            Route("/photos/{number:int}/{side}", picture),
            Mount("/assets", StaticFiles(directory=ASSETS)),
        ],
        exception_handlers={PlateblurError: failed, OSError: failed},
    )
    return Guard(app, port, token)


def _part(text: str) -> Part:
    sides = [_whole(side) for side in text.split(",")]
    if len(sides) != 4:
        raise InvalidError("Expected four sides of a part.")
    left, top, right, bottom = sides
    return left, top, right, bottom


def _whole(text: Any) -> int:
    """Return a whole number that isn't negative, from a query.

    Raises:
        InvalidError: it is none.
    """
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise InvalidError("Expected a whole number.")
    return int(text)
