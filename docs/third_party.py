"""Write `THIRD_PARTY.md`: the packages that PlateBlur needs, with versions and licences.

    python docs/third_party.py

It follows the needs of each extra through the metadata of the packages installed here, so run it in
the environment of `make test`, whose versions are those of `requirements.lock`. A test fails when
the file no longer matches the lock.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OUT = ROOT / "THIRD_PARTY.md"
EXTRAS = (
    *("", "serve", "demo", "exact", "buckets", "cluster", "parquet", "openvino", "train", "review"),
)
"""What a user may install; "" is the base. The images hold the base, `serve` and what runs need."""

LONGEST_LICENCE = 60  # characters; a longer field holds the licence's whole text
NO_LICENCE = re.compile(r"^(unknown|dual license|license|see license.*)?$", re.IGNORECASE)

OPENING = """# Third-party notices

**Repository and wheel.** They contain no code of other projects. The weights in
`plateblur/models/` were trained with, and fine-tuned from,
[ultralytics](https://github.com/ultralytics/ultralytics), AGPL-3.0, on the data sets that the cards
beside them credit one by one.

**Installed beside it.** `pip` installs the packages below from their own projects, each with its
licence in its `dist-info` folder. `docs/third_party.py` writes this list for Linux and the versions
of `requirements.lock`.

**Container images.** The service's contains the packages marked "base" and "serve". The one for
runs contains those marked "base", "exact", "buckets", "cluster" and "parquet", what Ray's dashboard
needs (the extra `default` of Ray), and with `DEVICE=cuda` NVIDIA's CUDA libraries, which have a
licence of NVIDIA's own. Both contain Python ([PSF-2.0](https://docs.python.org/3/license.html)) and
Debian packages, whose licences are in `/usr/share/doc` of the image.

**Libraries inside packages.** Some wheels bundle libraries under other licences than their own. The
wheel of `av` holds FFmpeg with x264 and x265, which makes that build GPL-2.0-or-later. The wheel of
`pillow-heif` holds libheif, libde265 and x265; its authors state GPLv2 for it. x264 and x265 are
offered under GPLv2 or later, so they can be combined with AGPLv3 code. The wheel of
`opencv-python-headless` holds an FFmpeg under LGPL-2.1. The details are in `LICENSES_bundled.txt`
and `LICENSE-3RD-PARTY.txt` of their `dist-info` folders. If you pass an image on, you pass these
libraries on, too.
"""


def needs(name: str, extra: str) -> Iterable[Requirement]:
    """Return what a package needs here, with one of its extras or "" for none."""
    if name == "plateblur":  # from its source, because what is installed may be an older one
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        own = project["optional-dependencies"][extra] if extra else project["dependencies"]
        yield from map(Requirement, own)
        return
    for line in distribution(name).requires or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def closure(extra: str) -> set[str]:
    """Return the names of all packages that `plateblur` needs with an extra, itself left out.

    Raises:
        PackageNotFoundError: one of them isn't installed here.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [("plateblur", ""), ("plateblur", extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for need in needs(name, wanted):
            package = str(canonicalize_name(need.name))
            waiting += [(package, part) for part in ("", *need.extras)]
    return {name for name, _ in seen} - {"plateblur"}


def licence_of(package: Distribution) -> str:
    """Return the licence that a package's metadata states, as short as it is stated there."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classified = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::") and text != "License :: OSI Approved"
    ]
    stated = metadata["License"].strip() if "License" in metadata else ""
    if stated and len(stated) <= LONGEST_LICENCE and not NO_LICENCE.match(stated):
        return " ".join(stated.split())
    return ", ".join(classified) or "see its licence file"


def home_of(package: Distribution) -> str:
    """Return the address of a package's project page."""
    name = canonicalize_name(package.metadata["Name"])
    return f"https://pypi.org/project/{name}/{package.version}/"


def notices() -> str:
    """Return the text of the file."""
    used: dict[str, list[str]] = {}
    for extra in EXTRAS:
        for name in closure(extra):
            used.setdefault(name, []).append(extra or "base")
    rows = []
    for name, by in sorted(used.items()):
        package = distribution(name)
        where = "base" if "base" in by else ", ".join(by)
        link = f"[{name} {package.version}]({home_of(package)})"
        rows.append(f"| {link} | {licence_of(package)} | {where} |")
    table = ["| package | licence as stated | needed by |", "| --- | --- | --- |", *rows]
    return "\n".join([OPENING, *table, ""])


def main() -> None:
    """Write the file."""
    try:
        OUT.write_text(notices())
    except PackageNotFoundError as error:
        sys.exit(f"expected the environment of `make test`, {error.name} isn't installed here")


if __name__ == "__main__":
    main()
