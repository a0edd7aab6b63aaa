"""RodoSol-ALPR: 20,000 photos of Brazilian toll gates, 1280x720; given on request.

    python datasets/rodosol_alpr.py RodoSol-ALPR.zip --out datasets/out/rodosol-alpr

Ask for it as github.com/raysonlaroca/rodosol-alpr-dataset says; it may not be passed on.

Layout, from that README and from the parsers of several people who have it (a code search for
`RodoSol-ALPR/images`): `images/{cars-br,cars-me,
motorcycles-br,motorcycles-me}/img_NNNNNN.jpg` beside a `.txt` of the same name with the lines
`type`, `plate`, `layout` and `corners: x,y x,y x,y x,y`. Its `split.txt` is drawn photo by photo,
while a vehicle passes the gates again and again; here all photos of one plate go to one split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from plateblur.sets import layout, recipe
from plateblur.sets.annotation_texts import corner_box, fields_of

CARD = layout.SetCard(
    name="rodosol-alpr",
    source="github.com/raysonlaroca/rodosol-alpr-dataset",
    licence="academic research only, non-commercial, no redistribution (licence agreement)",
    region="Brazil and Mercosur, toll gates",
)


def photos(root: Path) -> Iterator[layout.SourcePhoto]:
    """Yield the photos, all of one plate in one split.

    Args:
        root: folder that holds `images`, at any depth.

    Raises:
        DatasetError: a photo without its annotation, or with a damaged one.
    """
    for path in sorted(root.rglob("img_*.jpg")):
        annotation = path.with_suffix(".txt")
        found = fields_of(annotation)
        try:
            boxes, plate = corner_box(found["corners"]), found["plate"]
        except (KeyError, ValueError) as error:
            raise layout.DatasetError(
                f"{annotation}: expected `plate` and `corners`: {error}"
            ) from error
        yield layout.SourcePhoto(
            path, boxes, layout.split_of(plate), f"{path.parent.name}/{path.name}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, locate, convert and print the counts."""
    recipe.on_request(argv, page=__doc__, card=CARD, photos=photos)


if __name__ == "__main__":
    layout.run(main)
