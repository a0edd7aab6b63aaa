"""Put a run's model beside the shipped one, for those who need what the shipped one isn't.

    python -m training.offer runs/clear/plates.onnx --as clear --data DATA.yaml

It becomes `plateblur/models/plates-clear.onnx`, with a card beside it: its own figures on the test
split and on the photos that its run kept apart, and how both differ from the shipped detector as it
is served. Nobody gets it who doesn't ask for it (`--model clear`), so it has no gate to pass, but
it needs the same record of what it was made from. Each look at a split is recorded.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from training.card import NEAR, as_json, figures_to_quote, model_card, replace_file
from training.checkout import run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.promote import (
    Config,
    RefusedError,
    add_options,
    count_data_sets,
    kept_apart_figures,
    on_photos_kept_apart,
    read_candidate,
    write_looks,
)

NAME = re.compile(r"[a-z][a-z0-9]*")  # of a model beside the shipped one


def offer(config: Config, *, name: str, date: str) -> list[Path]:
    """Write the model and its card and return the files that were written.

    Args:
        config: what to offer, and where to.
        name: what people ask for it by.
        date: of today, YYYY-MM-DD.

    Raises:
        ValueError: a name that no file can have, or that of the network for near plates.
        RefusedError: it has no record of its run, is not that run's model, or is not calibrated;
            nothing was looked at.
    """
    placed = config.models / f"plates-{name}.onnx"
    if not NAME.fullmatch(name) or placed.name == NEAR:
        raise ValueError(
            "expected a name of small letters and digits, and not that of the network for near "
            f"plates, got {name!r}"
        )
    run = config.run or config.candidate.parent
    shipped = config.models / "plates.onnx"
    shipped_card = json.loads(shipped.with_suffix(".json").read_text())
    record, export, data_sets = read_candidate(config, run, shipped_card)
    tested_on = count_data_sets(config.data.with_name("manifest.csv"))
    measured = EvaluationConfig(
        data=config.data,
        out=run / "offer",
        split="test",
        model=config.candidate,
        compare=shipped,
        labels_overlay=config.labels_overlay,
        threads=config.threads,
        plots=config.plots,
        contact_sheet=config.contact_sheet,
    )
    test, apart = evaluate(measured), evaluate(on_photos_kept_apart(measured, record))
    log = config.docs / "promotion-looks.json"
    looks = write_looks(log, test, apart, date=date, outcome=f"offered as {name}")
    card: dict[str, Any] = model_card(
        test,
        figures=figures_to_quote(test),
        record=record,
        export=export,
        data_sets=data_sets,
        date=date,
        file=placed.name,
        tested_on=tested_on,
    )
    card["name"] = f"{card['name']}-{name}"
    card["compared"] = {
        on: one["compared"]["differences"] for on, one in (("test", test), ("kept apart", apart))
    }
    card["kept_apart"] = kept_apart_figures(apart, record["config"]["kept_apart"])
    card["looks"] = looks
    replace_file(placed, config.candidate.read_bytes())
    replace_file(placed.with_suffix(".json"), as_json(card))
    return [placed, placed.with_suffix(".json"), log]


def main() -> None:
    """Read the command line and offer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--as", dest="name", required=True, help="what people ask for it by")
    given = vars(add_options(parser).parse_args())
    name = given.pop("name")
    try:
        written = offer(Config(**given), name=name, date=time.strftime("%Y-%m-%d"))
    except RefusedError as refusal:
        sys.exit(f"refused: {refusal}")
    print("offered; to be committed together:")
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    run_step(main)
