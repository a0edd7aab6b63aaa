"""The commands `demo` and `serve`, whose parts are extras and loaded only when they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from plateblur.cli_options import ModelOption
from plateblur.detector import shipped_model

Host = Annotated[str, typer.Option(help="Address to listen on.")]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """End the command with what to install where the block misses a package of an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "plateblur":
            raise
        needed = f"This command requires the package {error.name}, which isn't installed."
        typer.echo(f"{needed}\nRun: pip install 'plateblur[{name}]'", err=True)
        raise typer.Exit(2) from error


def demo(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.")] = 7860,
    examples: Annotated[
        Path | None,
        typer.Option(
            help="Folder of drawn scenes to offer in place of those that are included.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    review_dir: Annotated[
        Path | None,
        typer.Option(help="Store photos here for training if people agree to it."),
    ] = None,
    model: ModelOption = None,
    source_url: Annotated[
        str, typer.Option(help="URL of your changed source code; by default the code itself.")
    ] = "",
) -> None:
    """Start the demo page for photos and clips. Requires plateblur[demo]."""
    with extra("demo"):
        from plateblur.demo.serving import run_demo
    raise typer.Exit(
        run_demo(
            host=host,
            port=port,
            examples=examples,
            review_dir=review_dir,
            model=model or shipped_model(),
            source_url=source_url,
        )
    )


def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; overrides PLATEBLUR_DATA_DIR.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="ONNX model of the detector, or `clear`; overrides PLATEBLUR_MODEL."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    settings: Annotated[
        bool, typer.Option("--settings", help="List the environment variables and exit.")
    ] = False,
) -> None:
    """Start the service: API, accounts and console. Requires plateblur[serve]."""
    with extra("serve"):
        from plateblur.serving import run_service
        from plateblur.web.settings import settings_help
    if settings:
        typer.echo(settings_help())
        raise typer.Exit
    raise typer.Exit(
        run_service(host=host, port=port, workers=workers, data_dir=data_dir, model=model)
    )
