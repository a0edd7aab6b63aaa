"""Pages for people: what the service does, how to call it, a form to try it, the API reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
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
from plateblur.web.schemas import TAG_ID
from plateblur.web.service import Service
from plateblur.web.source import source_link

HERE = Path(__file__).parent
LOGO = HERE / "static" / "logo.svg"
"""Of every page: the service's, the console's and the demo's."""


@dataclass(frozen=True, slots=True)
class Client:
    """A code example, shown on the page, and run in the tests if its language is installed."""

    name: str
    title: str
    template: str
    needs: str


CLIENTS = (
    Client("python", "Python", "clients/python.py.txt", "Python 3.9 or later"),
    Client("javascript", "JavaScript", "clients/javascript.mjs.txt", "Node.js 18 or later"),
    Client("csharp", "C#", "clients/csharp.cs.txt", ".NET 6 or later"),
    Client("vbnet", "VB.NET", "clients/vbnet.vb.txt", ".NET 6 or later"),
    Client("php", "PHP", "clients/php.php.txt", "PHP 8 with the curl extension"),
    Client("curl", "curl", "clients/curl.sh.txt", "POSIX shell, curl and base64"),
)

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


def add_pages(app: FastAPI) -> None:
    """Add the pages and their static files to `app`."""
    service: Service = app.state.service
    public_url = service.settings.public_url.rstrip("/")

    def on_every_page(request: Request) -> dict[str, Any]:
        return {"has_console": getattr(request.app.state, "has_console", False), "source": source}

    source = source_link(service.settings.source_url)
    templates = Jinja2Templates(env=make_environment(), context_processors=[on_every_page])
    sources = [(client, render_client(client, public_url=public_url)) for client in CLIENTS]
    errors = [
        {
            "cd": cd,
            "sentence": f"{TOO_LONG} / {NOTHING}" if cd == "1013" else sentence,
            "meaning": MEANINGS[cd],
            "status": STATUSES[cd],
        }
        for cd, sentence in SENTENCES.items()
    ]
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        """Answer browsers that look at JSON or the demo, where no page links the logo."""
        return FileResponse(LOGO, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        return templates.TemplateResponse(
            request,
            "front.html",
            {
                "path": DOCUMENTED_PATH,
                "public_url": public_url,
                "errors": errors,
                "clients": sources,
                "tag_id": TAG_ID,
                "photo_url": service.settings.photo_url,
                "jobs": app.state.has_jobs,
                "v1_max_mb": service.settings.v1_max_mb,
                "v1_trial_max_mb": service.settings.v1_trial_max_mb,
                "real_status_codes": service.settings.real_status_codes,
            },
        )

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        schema = app.openapi()
        return templates.TemplateResponse(
            request, "docs.html", {"operations": _operations(schema), "public_url": public_url}
        )


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
