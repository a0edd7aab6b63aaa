"""Start the service from a checkout: `python serve.py` is `plateblur serve`."""

import typer

from plateblur.cli_serving import serve

if __name__ == "__main__":
    typer.run(serve)
