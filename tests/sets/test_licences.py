"""What counts as a clear licence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plateblur.sets.licences import attribution, is_clear, licences_sentence, train_photos

CARD = Path(__file__).parents[2] / "plateblur" / "models" / "plates.json"


@pytest.mark.parametrize(
    ("licence", "clear"),
    [
        ("MIT", True),
        ("CC BY 4.0", True),
        ("CC BY-SA 3.0", True),
        ("CC0", True),
        ("Apache-2.0", True),
        ("AGPL-3.0 (repo)", True),
        ("CC BY 4.0 (Roboflow); Open Images photos are CC BY 2.0", True),
        ("CC BY-NC 4.0", False),
        ("CC BY-ND 4.0", False),
        ("unstated", False),
        ("", False),
        ("unstated for the originals; a re-export says CC BY 4.0", False),
        ("Apache-2.0 (repo); photos look web-scraped: third-party rights not covered", False),
        ("CC BY 4.0 in data.yaml, but README says All rights reserved", False),
        ("CC BY 4.0 (boxes); photos CC BY 2.0, which Open Images does not vouch for", False),
        ("academic research only, non-commercial", False),
    ],
)
def test_a_licence_is_clear_if_it_is_open_and_nothing_speaks_against_it(
    licence: str, clear: bool
) -> None:
    assert is_clear(licence) is clear


def test_only_train_photos_count() -> None:
    sets = [
        {"set": "a", "licence": "MIT", "photos": {"train": 3, "test": 9}},
        {"set": "b", "licence": "unstated", "photos": {"train": 1, "test": 9}},
        {"set": "c", "licence": "unstated", "photos": {"train": 0, "test": 9}},
    ]
    assert train_photos(sets) == (1, 4)
    assert licences_sentence(sets) == (
        "1 of 4 training photos (25%) come from sets without a clear licence: b."
    )
    assert licences_sentence(sets[:1]) == (
        "All 3 training photos come from sets under clear, open licences."
    )


def test_the_shipped_card_says_it_of_its_own_sets() -> None:
    card = json.loads(CARD.read_text())
    assert card["training_photos"] == licences_sentence(card["data_sets"])
    assert list(card)[:3] == ["name", "missed_on_test", "training_photos"]
    assert [one["attribution"] for one in card["data_sets"]] == [
        attribution(one) for one in card["data_sets"]
    ]
