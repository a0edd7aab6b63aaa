"""Pages for people: what the service does, how to call it, a form to try it, the API reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    PREDICTIONS_PER_MONTH,
    TRIAL_PERIOD,
    TRIAL_REQUESTS_PER_DAY,
)
from plateblur.web.failures import DOCUMENTED_PATH, NOTHING, SENTENCES, STATUSES, TOO_LONG
from plateblur.web.health import Look
from plateblur.web.packages import IN_EVERY_PLAN, comparison, packages_in
from plateblur.web.schemas import TAG_ID
from plateblur.web.service import Service
from plateblur.web.settings import Settings
from plateblur.web.sketches import angle_sketches
from plateblur.web.source import source_link
from plateblur.web.status import RUNNING, SHOWN_DAYS, Watch

HERE = Path(__file__).parent
LOGO = HERE / "static" / "logo.svg"
"""Of every page: the service's, the console's and the demo's."""


@dataclass(frozen=True, slots=True)
class Client:
    """A code example, shown on the page, and run in the tests if its language is installed."""

    name: str
    title: str
    template: str
    lexer: str
    needs: str


CLIENTS = (
    Client("curl", "curl", "clients/curl.sh.txt", "bash", "POSIX shell, curl and base64"),
    Client("python", "Python", "clients/python.py.txt", "python", "Python 3.9 or later"),
    Client(
        "javascript",
        "JavaScript",
        "clients/javascript.mjs.txt",
        "javascript",
        "Node.js 18 or later",
    ),
    Client("php", "PHP", "clients/php.php.txt", "php", "PHP 8 with the curl extension"),
    Client("csharp", "C#", "clients/csharp.cs.txt", "csharp", ".NET 6 or later"),
    Client("vbnet", "VB.NET", "clients/vbnet.vb.txt", "vb.net", ".NET 6 or later"),
)

PART_NAMES = {
    RUNNING: "Service",
    "store": "Accounts and usage",
    "model": "Detector",
    "disk": "Disk",
}
# The cause of each error code, shown next to its fixed sentence.
MEANINGS = {
    "1001": "The Authorization header is missing or isn't valid Basic authentication.",
    "1002": f"The trial's {TRIAL_REQUESTS_PER_DAY} requests for today (UTC) are used up.",
    "1003": f"The {TRIAL_PERIOD.days}-day trial is over, and there is no paid plan.",
    "1004": f"More than {PAID_REQUESTS_PER_WINDOW} requests within {PAID_WINDOW.seconds} seconds, "
    f"or {PREDICTIONS_PER_MONTH:,} predictions this month.",
    "1005": "The paid plan has ended.",
    "1006": "The account has neither a trial nor a paid plan.",
    "1007": "Internal error: the trial could not be found.",
    "1008": "Internal error: the trial's data is damaged.",
    "1009": "The database was unavailable when looking up the trial.",
    "1010": "Internal error: the invoice could not be found.",
    "1011": "Internal error: the invoice's data is damaged.",
    "1012": "The database was unavailable when looking up the invoice.",
    "1013": "The request body is larger than 5 MB (more under /v1), or contains no photo.",
    "1014": "Invalid JSON, a wrong type, invalid base64, both photo fields, a URL that can't be "
    "fetched, an unsupported file, too many fields, or too many pixels.",
    "1015": "The user name, password or API key is wrong.",
    "1016": "The account isn't activated yet, or is closed or locked.",
    "2001": "The photo could not be blurred. The request doesn't count.",
}


@cache
def make_environment(*folders: Path) -> Environment:
    """Return the templates; values are escaped, and a missing name is an error.

    Args:
        folders: further folders, searched before our own.
    """
    return Environment(
        loader=FileSystemLoader([*folders, HERE / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_client(client: Client, *, public_url: str) -> str:
    """Return the code of `client`, with this service's endpoint."""
    template = _CODE.get_template(client.template)
    return template.render(endpoint=public_url + DOCUMENTED_PATH)


_CODE = make_environment().overlay(autoescape=False)  # compiled once, however many apps are made


@cache  # there are only our own examples, and colouring them takes most of the time of `create_app`
def coloured(code: str, lexer: str) -> Markup:
    """Return code as HTML with a class for each kind of word; its text stays the same."""
    words = HtmlFormatter(nowrap=True, classprefix="t-")
    made = highlight(code, get_lexer_by_name(lexer, stripnl=False, ensurenl=False), words)
    return Markup(made)  # noqa: S704 - Pygments escapes what it is given


def site_values(settings: Settings, *, has_console: bool, email: str) -> dict[str, Any]:
    """Return what the head and foot of every page say.

    Args:
        settings: of this deployment.
        has_console: whether there are accounts, so that there are pages of theirs.
        email: of who is logged in, or "".
    """
    return {
        "has_console": has_console,
        "visitor": email,
        "source": source_link(settings.source_url),
        "demo": settings.demo,
        "imprint": {
            "name": settings.seller_name,
            "address": settings.seller_address.replace("\\n", "\n"),
            "email": settings.seller_email,
            "phone": settings.seller_phone,
            "register": settings.seller_register,
        },
    }


def add_pages(app: FastAPI, look: Look, watch: Watch | None) -> None:
    """Add the pages and their static files to `app`.

    Args:
        app: with the service in its state; `app.state.visitor` tells who is logged in.
        look: checks the parts of the service.
        watch: knows the last days; None shows none.
    """
    service: Service = app.state.service
    settings = service.settings
    public_url = settings.public_url.rstrip("/")
    templates = Jinja2Templates(env=make_environment())
    sources = [
        (client, coloured(render_client(client, public_url=public_url), client.lexer))
        for client in CLIENTS
    ]
    errors = [
        {
            "cd": cd,
            "sentence": f"{TOO_LONG} / {NOTHING}" if cd == "1013" else sentence,
            "meaning": MEANINGS[cd],
            "status": STATUSES[cd],
        }
        for cd, sentence in SENTENCES.items()
    ]
    packages = packages_in(settings.price_currency)
    prices = {
        "packages": packages,
        "comparison": comparison(packages),
        "in_every_plan": IN_EVERY_PLAN,
        "trial_mb": settings.v1_trial_max_mb,
        "paid_mb": settings.v1_max_mb,
        "guest_photos": settings.guest_photos,
    }
    endpoint = {
        "path": DOCUMENTED_PATH,
        "public_url": public_url,
        "photo_url": settings.photo_url,
        "v1_max_mb": settings.v1_max_mb,
        "v1_trial_max_mb": settings.v1_trial_max_mb,
    }
    reference = endpoint | {
        "errors": errors,
        "sketches": Markup(angle_sketches()),  # noqa: S704 - drawn by us
        "tag_id": TAG_ID,
        "real_status_codes": settings.real_status_codes,
    }
    app.state.visitor = _nobody
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    async def page(request: Request, template: str, values: dict[str, Any]) -> Response:
        visitor: Callable[[Request], str] = app.state.visitor
        email = await to_thread.run_sync(visitor, request)
        has_console = getattr(app.state, "has_console", False)
        site = site_values(settings, has_console=has_console, email=email)
        return templates.TemplateResponse(request, template, site | values)

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        """Answer browsers that look at JSON or the demo, where no page links the logo."""
        return FileResponse(LOGO, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        return await page(
            request,
            "front.html",
            prices | endpoint | {"clients": sources, "jobs": app.state.has_jobs},
        )

    @app.get("/pricing", include_in_schema=False)
    async def pricing(request: Request) -> Response:
        return await page(request, "pricing.html", prices)

    @app.get("/status", include_in_schema=False)
    async def status(request: Request) -> Response:
        parts = await look()
        values = {
            "parts": parts,
            "ready": all(parts.values()),
            "names": PART_NAMES,
            "checked": f"{service.now():%Y-%m-%d %H:%M:%S} UTC",
            "waiting": service.photos.taken,
            "watched": watch is not None,
            "history": await watch.history() if watch else None,
            "shown_days": SHOWN_DAYS,
        }
        return await page(request, "status.html", values)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        operations = _operations(app.openapi())
        more = {"operations": operations, "jobs": app.state.has_jobs}
        return await page(request, "docs.html", reference | more)


def _nobody(_: Request) -> str:
    """Return who is logged in where there are no accounts."""
    return ""


def _operations(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the page shows of each operation, with references resolved."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "anchor": f"{method}-{path.strip('/').replace('/', '-').replace('.', '-')}",
            "summary": operation["summary"],
            "security": [name.title() for way in operation.get("security", []) for name in way],
            "bodies": _bodies(schema, operation.get("requestBody", {})),
            "responses": [
                {
                    "status": status,
                    "description": response["description"],
                    "types": sorted(response.get("content", {})),
                    "fields": _fields(schema, _first_schema(response)),
                }
                for status, response in sorted(operation["responses"].items())
            ],
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def _bodies(schema: dict[str, Any], body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": media_type, "fields": _fields(schema, content["schema"])}
        for media_type, content in body.get("content", {}).items()
    ]


def _first_schema(response: dict[str, Any]) -> dict[str, Any]:
    content = response.get("content", {})
    named: dict[str, Any] = content.get("application/json") or next(iter(content.values()), {})
    found: dict[str, Any] = named.get("schema", {})
    return found


def _fields(schema: dict[str, Any], value: dict[str, Any]) -> list[dict[str, str]]:
    value = value.get("anyOf", [value])[0]
    if "$ref" in value:
        value = schema["components"]["schemas"][value["$ref"].rpartition("/")[2]]
    return [
        {
            "name": name,
            "kind": _kind(one),
            "default": str(one["default"]) if one.get("default") is not None else "",
            "description": one.get("description", ""),
        }
        for name, one in value.get("properties", {}).items()
    ]


def _kind(value: dict[str, Any]) -> str:
    """Return the type in words: "string", "veil | solid", "number 0 to 1"."""
    if "$ref" in value:
        return str(value["$ref"].rpartition("/")[2])
    if "enum" in value:
        return " | ".join(str(one) for one in value["enum"])
    if "anyOf" in value:
        return " | ".join(_kind(one) for one in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {_kind(value['items'])}"
    kind = str(value.get("format") or value.get("type", "any"))
    if "minimum" in value and "maximum" in value:
        return f"{kind} {value['minimum']:g} to {value['maximum']:g}"
    return kind
