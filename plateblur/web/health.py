"""Health probes and metrics."""

from __future__ import annotations

import asyncio
import hmac
import shutil
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from plateblur.web.failures import problem
from plateblur.web.schemas import PROBLEM_SCHEMA, Health
from plateblur.web.service import Service

MIN_FREE_BYTES = 64 * 1024**2  # About what a million requests add to the store.
PROBE_BYTES = 4096  # A page of the store.


def has_room(folder: Path) -> bool:
    """Return whether `folder` is writable and its disk has `MIN_FREE_BYTES` left."""
    try:
        if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
            return False
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError:
        return False
    return True


class Look:
    """Checks the parts of the service, one check at a time.

    All who ask during a check share the next one, so that a flood of requests costs two.
    """

    def __init__(self, service: Service) -> None:
        self._checks = {"store": service.gate.is_ready, **service.ready_checks}
        self._looking = asyncio.Lock()
        self._begun = 0
        self._found: dict[str, bool] = {}

    async def __call__(self) -> dict[str, bool]:
        """Return of each part whether it works."""
        begun_before = self._begun
        async with self._looking:
            if self._begun == begun_before or not self._found:
                self._begun += 1
                self._found = {}  # where a check is cancelled or raises
                self._found = {
                    name: await to_thread.run_sync(check) for name, check in self._checks.items()
                }
            return self._found


def health_router(service: Service, look: Look) -> APIRouter:
    """Return the routes for probes and Prometheus."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/healthz", summary="Liveness probe", response_model=Health)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok", "parts": {}})

    @router.get(
        "/readyz",
        summary="Readiness probe",
        response_model=Health,
        responses={503: {"model": Health, "description": "The service is not ready."}},
    )
    async def readyz() -> JSONResponse:
        parts = await look()
        ready = all(parts.values())
        return JSONResponse(
            {"status": "ok" if ready else "not ready", "parts": parts},
            status_code=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_model=None,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            401: {
                "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
                "description": "The token is missing or wrong.",
            },
        },
    )
    async def metrics(request: Request) -> Response:
        token = service.settings.metrics_token
        given = request.headers.get("authorization", "")
        open_to_all = not token and service.settings.mode == "development"
        matches = hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
        if not open_to_all and not (token and matches):
            return problem(
                request,
                status=HTTPStatus.UNAUTHORIZED,
                detail="A token is needed.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        written = await to_thread.run_sync(service.metrics.exposition)
        return Response(written, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
