"""Average a run's weights with those it started from.

    python -m training.average runs/mine --start runs/shipped/weights/restored.pt --share 0.5

A run that is trained for far plates forgets some of what its start knew. Weights between the two
keep both: choose the share on val. Source: M. Wortsman et al., "Robust fine-tuning of zero-shot
models", 2022. The run's record says so, and so does the model card.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.checkout import run_step


def average(run: Path, *, start: Path, share: float, own: str = "last.pt") -> Path:
    """Write `weights/averaged.pt` of a run and return its path.

    Args:
        run: run folder of `training/train.py`.
        start: the weights that it started from.
        share: of the run's own weights, 0 to 1; the rest is the start's.
        own: which of the run's weights, "epoch0.pt" for those after the first epoch.

    Raises:
        ValueError: a share out of range, or weights of another network.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, got {share}")
    ended = torch.load(run / "weights" / own, map_location="cpu", weights_only=False)
    before = torch.load(start, map_location="cpu", weights_only=False)
    # A finished run keeps its moving average as the model, an unfinished one beside the model.
    network, first = (one.get("ema") or one["model"] for one in (ended, before))
    ends, begins = network.float().state_dict(), first.float().state_dict()
    shapes = {name: tensor.shape for name, tensor in ends.items()}
    if shapes != {name: tensor.shape for name, tensor in begins.items()}:
        raise ValueError(f"expected weights of the same network in {run.name} and {start.name}")
    network.load_state_dict(
        {
            name: begins[name].lerp(ends[name], share) if ends[name].is_floating_point() else value
            for name, value in ends.items()
        }
    )
    averaged = run / "weights" / "averaged.pt"
    torch.save({**ended, "ema": None, "model": network}, averaged)
    record_file = run / "run.json"
    averaging = {"of": own, "with": start.name, "own": share}
    record = json.loads(record_file.read_text()) | {"averaged": averaging}
    record_file.write_text(json.dumps(record, indent=2) + "\n")
    return averaged


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and average."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of training/train.py")
    parser.add_argument("--start", type=Path, required=True, help="weights that it began from")
    parser.add_argument("--share", type=float, default=0.5, help="of the run's own weights")
    parser.add_argument("--own", default="last.pt", help="which of the run's, such as epoch0.pt")
    given = parser.parse_args(argv)
    averaged = average(given.run, start=given.start, share=given.share, own=given.own)
    sys.stdout.write(f"{averaged}\n")


if __name__ == "__main__":
    run_step(main)
