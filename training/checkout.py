"""Shared by all steps: this checkout's commit, what git would commit, how a step ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from plateblur.errors import PlateblurError

ROOT = Path(__file__).parents[1]


def require_private(folder: Path) -> None:
    """Refuse a folder that git would commit, because photos and labels are never committed.

    Raises:
        ValueError: the folder is in a git repository that does not ignore it.
    """
    folder = folder.resolve()
    tree = next((p for p in (folder, *folder.parents) if (p / ".git").exists()), None)
    if tree is None:
        return
    # Ask about a file, because a pattern such as `runs/` does not match a folder that is missing.
    asked = subprocess.run(
        ["git", "check-ignore", "--quiet", str(folder / "metrics.json")], cwd=tree, check=False
    )
    if asked.returncode != 0:
        raise ValueError(
            f"{folder} is inside a git tree and not ignored there; it would hold detections on "
            "people's photos. Give a folder outside of it, or one of the ignored ones (runs/)"
        )


def git_commit() -> str:
    """Return the commit of this checkout, with "+changes" if the tree differs from it."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = run("rev-parse", "HEAD") or "none"
    return f"{commit}+changes" if run("status", "--porcelain") else commit


def run_step(main: Callable[[], None]) -> None:
    """Run a step; a fault of its input ends it with one message and exit code 1.

    `python -X dev -m training...` shows the traceback instead.

    Args:
        main: reads the command line and does the work.
    """
    try:
        main()
    except (PlateblurError, ValueError, OSError, RuntimeError, yaml.YAMLError) as error:
        if sys.flags.dev_mode:
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
