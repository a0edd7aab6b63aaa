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

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from plateblur.sets import fetch, forms, layout

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
        found = forms.fields_of(annotation)
        try:
            boxes, plate = forms.corner_box(found["corners"]), found["plate"]
        except (KeyError, ValueError) as error:
            raise layout.DatasetError(
                f"{annotation}: expected `plate` and `corners`: {error}"
            ) from error
        yield layout.SourcePhoto(
            path, boxes, layout.split_of(plate), f"{path.parent.name}/{path.name}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, locate, convert and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="the archive that was sent to you, or its folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new set")
    parser.add_argument("--sha256", help="of the archive")
    given = parser.parse_args(argv)
    work = given.out.with_name(f"{given.out.name}.source")
    root = fetch.locate(given.source, sha256=given.sha256, to=work)
    print(layout.counts(layout.write_set(given.out, CARD, photos(root))))


if __name__ == "__main__":
    layout.run(main)
