"""The card and the tables of figures, as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.card import (
    TABLE_CLOSES,
    TABLE_OPENS,
    figures_table,
    missed_sentence,
    model_card,
    rewrite,
)


def group(plates: int, missed: int, value: float | None) -> dict[str, Any]:
    """Return the figures of a group of plates, as `training/promote.py` quotes them."""
    return {
        **{"photos": 9, "plates": plates, "missed": missed},
        "covered99": {"value": value, "low": value, "high": value},
        **{"false_boxes_per_photo": missed / 9, "ap50": 0.9, "ap50_95": 0.5},
    }


FIGURES: dict[str, Any] = {
    **{"split": "test", "min_confidence": 0.45, "margin": 0.25, "labels": "corrected"},
    "ranges": {"within 1:15": group(20, 1, 0.95), "below 1:60": group(4, 3, 0.25)},
    "overall": group(24, 4, 0.83),
    "labels_as_they_are": {
        "ranges": {"within 1:15": group(18, 2, 0.89), "below 1:60": group(0, 0, None)},
        "overall": group(18, 2, 0.89),
    },
}
SETS = [
    {
        **{"set": "drawn", "source": "here", "licence": "CC0", "region": "nowhere"},
        "photos": {"train": 1, "val": 0, "test": 9},
    },
    {
        **{"set": "found", "source": "github.com/ana/plates", "licence": "unstated"},
        **{"region": "", "photos": {"train": 3, "val": 0, "test": 0}},
    },
]


@pytest.fixture
def card() -> dict[str, Any]:
    return model_card(
        {"model": {"sha256": "0" * 64, "bytes": 10}},
        figures=FIGURES,
        record={"config": {"model": "yolo26n.pt"}, "weights": "yolo26n.pt"},
        export={"input_size": 320},
        data_sets=SETS,
        date="2026-01-31",
    )


def test_both_kinds_of_labels_are_shown_side_by_side() -> None:
    lines = figures_table(FIGURES)
    assert (
        "| within 1:15 | 20 | 1 | 95.0% (95.0% to 95.0%) | 18 | 2 | 89.0% (89.0% to 89.0%) |"
    ) in lines
    assert "| below 1:60 | 4 | 3 | 25.0% (25.0% to 25.0%) | 0 | 0 |  |" in lines
    text = "\n".join(lines)
    assert "Corrected labels: 0.444 false boxes a photo" in text
    assert "Original labels: 0.222 false boxes a photo" in text
    assert "drawn by a vision model" in text
    sentence = missed_sentence(
        "within 1:15", FIGURES["ranges"]["within 1:15"], original=group(18, 2, 0.89)
    )
    assert "1 of 20 plates missed" in sentence
    assert "original labels: 2 of 18 plates missed; 89.0%" in sentence


def test_labels_without_corrections_need_no_second_half() -> None:
    plain = {key: value for key, value in FIGURES.items() if key != "labels_as_they_are"}
    lines = figures_table(plain)
    assert "| within 1:15 | 20 | 1 | 95.0% (95.0% to 95.0%) |" in lines
    assert "vision model" not in "\n".join(lines)


def test_the_card_begins_with_what_is_missed_and_which_photos_have_no_clear_licence(
    card: dict[str, Any],
) -> None:
    assert list(card)[:3] == ["name", "missed_on_test", "training_photos"]
    assert card["missed_on_test"][0].endswith(
        "original labels: 2 of 18 plates missed; 89.0% at least 99 % hidden "
        "(95 % interval 89.0% to 89.0%)"
    )
    assert card["training_photos"] == (
        "3 of 4 training photos (75%) come from sets without a clear licence: found."
    )
    credit = {one["set"]: one["attribution"] for one in card["data_sets"]}
    assert credit["found"].startswith("found by ana on GitHub (github.com/ana/plates). Licence")
    assert credit["drawn"].startswith("drawn (here). Licence as stated: CC0.")


def test_texts_are_written_again_without_measuring(card: dict[str, Any], tmp_path: Path) -> None:
    models, docs = tmp_path / "models", tmp_path / "docs"
    models.mkdir()
    docs.mkdir()
    page = docs / "model.md"
    page.write_text(f"before\n{TABLE_OPENS}\nan older table\n{TABLE_CLOSES}\nafter\n")
    # What the gate adds to a card stays.
    older = card | {"limits": ["an older wording"], "looks": {"test": 14}}
    (models / "plates.json").write_text(json.dumps(older))
    written = rewrite(models=models, docs=docs, readme=tmp_path / "none.md")
    assert [path.name for path in written] == ["plates.json", "model.md"]
    assert json.loads((models / "plates.json").read_text()) == card | {"looks": {"test": 14}}
    table = "\n".join(figures_table(FIGURES))
    assert page.read_text() == f"before\n{TABLE_OPENS}\n\n{table}\n\n{TABLE_CLOSES}\nafter\n"
