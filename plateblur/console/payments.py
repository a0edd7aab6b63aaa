"""The payment provider's webhook; it exists only if its secret is set."""

from __future__ import annotations

import logging
from http import HTTPStatus

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from plateblur.accounts.payments import StrayPaymentError, apply_payment, read_payment
from plateblur.accounts.store import StoreUnavailableError
from plateblur.accounts.types import OrderError
from plateblur.console.parts import Parts
from plateblur.web.body import read_body
from plateblur.web.failures import problem

PATH = "/payments/stripe"
MAX_NOTICE_BYTES = 256 * 1024  # Stripe's have some kilobytes; anybody may send one.
LOG = logging.getLogger("plateblur.console")


def add_payments(app: FastAPI, parts: Parts) -> None:
    """Add the webhook where `payment_webhook_secret` is set."""
    secret = parts.settings.payment_webhook_secret
    if not secret:
        return

    @app.post(PATH, include_in_schema=False)
    async def take_notice(request: Request) -> Response:
        timeout_s = parts.settings.body_timeout_s
        body = await read_body(request, timeout_s=timeout_s, max_bytes=MAX_NOTICE_BYTES)
        signature = request.headers.get("stripe-signature", "")
        return await to_thread.run_sync(lambda: _take(parts, request, body, signature, secret))


def _take(parts: Parts, request: Request, body: bytes, signature: str, secret: str) -> Response:
    """Apply a notice; for any status but 2xx the provider sends it again later."""
    try:
        payment = read_payment(body, signature, secret=secret)
    except OrderError as error:
        return problem(request, status=HTTPStatus.BAD_REQUEST, detail=str(error))
    if payment is None:
        return JSONResponse({"taken": False})
    try:
        apply_payment(parts.store, payment, now=parts.clock())
    except StrayPaymentError as error:
        # Somebody has to look at it: the operator's page of invoices lists it, and the provider
        # shows its notice as failed.
        LOG.error(
            "unmatched payment",
            extra={"fields": {"event_id": payment.event_id, "cause": str(error)}},
        )
        return problem(request, status=HTTPStatus.CONFLICT, detail=str(error))
    except StoreUnavailableError:
        return problem(
            request, status=HTTPStatus.SERVICE_UNAVAILABLE, detail="The store can't be reached."
        )
    return JSONResponse({"taken": True})
