"""Servers on 127.0.0.1 for what the recipes download."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: Any) -> None: ...


class Git(http.server.BaseHTTPRequestHandler):
    """Serves the git repositories of a folder, through git's own CGI program."""

    def __init__(self, *args: Any, directory: str) -> None:
        self.directory = directory
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length", 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=self.rfile.read(length),
            capture_output=True,
            env={
                "PATH": "/usr/bin:/bin",
                "GIT_PROJECT_ROOT": self.directory,
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(length),
            },
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200")[:3]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name that http.server calls


@contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve_files(stack: ExitStack) -> Callable[[Path], str]:
    """Serve a folder; returns its address."""
    return lambda root: stack.enter_context(serving(partial(Files, directory=str(root))))


@pytest.fixture
def serve_git(stack: ExitStack) -> Callable[[Path], tuple[str, str]]:
    """Commit a folder's files and serve the repository; returns its address and the commit."""

    def serve(root: Path) -> tuple[str, str]:
        def git(*arguments: str) -> str:
            identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
            done = subprocess.run(
                ["git", "-C", str(root), *identity, *arguments],
                capture_output=True,
                check=True,
                text=True,
            )
            return done.stdout.strip()

        git("init", "--quiet")
        git("add", "--all")
        git("commit", "--quiet", "--message", "stand-in")
        address = stack.enter_context(serving(partial(Git, directory=str(root.parent))))
        return f"{address}/{root.name}", git("rev-parse", "HEAD")

    return serve
