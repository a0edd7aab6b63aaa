"""Start the demo from a checkout: `python app.py` is `plateblur demo`."""

import typer

from plateblur.cli_serving import demo

if __name__ == "__main__":
    typer.run(demo)
