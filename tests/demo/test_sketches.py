from __future__ import annotations

from xml.etree import ElementTree

import pytest

from plateblur.demo.sketches import picture_sketch, recall_plot
from plateblur.web.sketches import BAD, GOOD, angle_sketches, angles_svg


def test_the_angles_are_drawn_as_well_formed_svg_with_a_name_for_each() -> None:
    page = ElementTree.fromstring(angle_sketches())  # noqa: S314 - drawn by us

    named = [svg.get("aria-label", "") for svg in page.iter("svg")]
    assert len(named) == 4
    assert "94% of its width" in named[0]
    assert "50% of its height" in named[3]


def test_the_docs_show_the_same_sketches_in_one_picture() -> None:
    picture = ElementTree.fromstring(angles_svg())  # noqa: S314 - drawn by us

    titles = [text.text for text in picture.iter() if text.tag.endswith("text")]
    assert [title for title in titles if title and "angle" in title] == [
        *("Side angle: good", "Side angle: too steep"),
        *("Tilt angle: good", "Tilt angle: too steep"),
    ]


@pytest.mark.parametrize(
    ("share", "colour"),
    [(1 / 14, GOOD), (1 / 15, GOOD), (1 / 16, BAD)],
    ids=["above", "at", "below"],
)
def test_a_plate_is_drawn_to_scale_and_coloured_by_the_guidance(share: float, colour: str) -> None:
    picture = ElementTree.fromstring(picture_sketch(share, 1 / 15))  # noqa: S314 - drawn by us

    plate = picture.findall("rect")[1]
    assert plate.get("fill") == colour
    assert float(plate.get("height", "")) == pytest.approx(180 * share, abs=0.06)


def test_recall_is_plotted_for_each_ratio_that_has_plates() -> None:
    def group(plates: int, recall: float) -> dict[str, object]:
        return {"plates": plates, "recall": {"value": recall}}

    figures = {"by_ratio": {">=1:10": group(40, 0.975), "<1:60": group(0, 0.0)}}

    plot = ElementTree.fromstring(recall_plot(figures))  # noqa: S314 - drawn by us

    assert [text.text for text in plot.iter("text")] == [">=1:10", "97.5% of 40"]
