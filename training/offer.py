"""Put a run's model beside the shipped one, for those who need what the shipped one isn't.

    python -m training.offer runs/clear/plates.onnx --as clear --data DATA.yaml

It becomes `plateblur/models/plates-clear.onnx`, with a card beside it: its own figures on the test
split and on the photos that its run kept apart, and how both differ from the shipped detector as it
is served. Nobody gets it who doesn't ask for it (`--model clear`), so it has no gate to pass, but
it needs the same record of what it was made from. Each look at a split is recorded.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.ancestors import all_data_sets
from training.card import as_json, figures_to_quote, model_card, replace_file
from training.checkout import run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.promote import (
    Config,
    RefusedError,
    add_options,
    count_data_sets,
    kept_apart_figures,
    manifest_of,
    read_export,
    read_run,
    require_calibrated,
    require_kept_apart,
    require_same_origin,
    trained_on,
    write_looks,
)

NAME = re.compile(r"[a-z][a-z0-9]*")  # of a model beside the shipped one
TAKEN = ("near",)  # the file that the shipped detector looks for beside itself


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
    if not NAME.fullmatch(name) or name in TAKEN:
        raise ValueError(f"expected a name of small letters and digits, not {TAKEN}, got {name!r}")
    run = config.run or config.candidate.parent
    shipped = config.models / "plates.onnx"
    record, export = read_run(run), read_export(config.candidate)
    train_data = trained_on(config, run)
    require_same_origin(export, record, run=run, train_data=train_data)
    require_calibrated(export)
    require_kept_apart(record, None, train_data=train_data, data=config.data)
    own = count_data_sets(config.manifest or manifest_of(train_data, config.data))
    tested_on = count_data_sets(config.data.with_name("manifest.csv"))
    sets = record["config"]["kept_apart"]
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
    unseen = replace(
        measured,
        out=run / "offer-kept-apart",
        split="train",
        kept_apart=tuple(sets),
        contact_sheet=False,  # once a person has seen a photo, it isn't kept apart
    )
    test, apart = evaluate(measured), evaluate(unseen)
    log = config.docs / "promotion-looks.json"
    looks = write_looks(log, test, apart, date=date, outcome=f"offered as {name}")
    placed = config.models / f"plates-{name}.onnx"
    card: dict[str, Any] = model_card(
        test,
        figures=figures_to_quote(test),
        record=record,
        export=export,
        data_sets=all_data_sets(own, record, None),
        date=date,
        file=placed.name,
        tested_on=tested_on,
    )
    card["name"] = f"{card['name']}-{name}"
    card["compared"] = {
        on: one["compared"]["differences"] for on, one in (("test", test), ("kept apart", apart))
    }
    card["kept_apart"] = kept_apart_figures(apart, sets)
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
