"""Serve the workspace to the browser of this machine until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from plateblur.errors import RunError
from plateblur.review.app import create_app
from plateblur.review.workspace import Workspace

ADDRESS = "127.0.0.1"


def run_workspace(
    run: Path,
    manifest: Path | None,
    *,
    port: int,
    opens_browser: bool,
    say: Callable[[str], object],
) -> None:
    """Serve the run in the folder `run`; say the address to open.

    Raises:
        RunError: it is no run, or the port is taken.
    """
    workspace = Workspace(run, manifest)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen()  # from now on the address that is said is answered
    except OSError as error:
        listening.close()
        raise RunError(f"port {port} is in use; choose another one with --port") from error
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    address = f"http://{ADDRESS}:{port}/?token={token}"
    config = uvicorn.Config(
        create_app(workspace, port=port, token=token),
        log_level="warning",
        access_log=False,  # it would have the token
        lifespan="off",
        server_header=False,
    )
    with listening:
        say(address)
        if opens_browser:
            webbrowser.open(address)
        uvicorn.Server(config).run(sockets=[listening])
    workspace.close()
