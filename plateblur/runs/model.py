"""The model of a run: which file it is, and what the card beside it says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from plateblur.detector import near_model
from plateblur.errors import ModelError
from plateblur.runs.files import digest_of, explain


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the manifest names it.

    Attributes:
        file: its name.
        sha256: of the file, in hex.
        card: name of the model on the card beside it; None where there is no card.
        notes: what people should know of it: a sentence each.
        near_sha256: of its network for near plates; None where there is none.
    """

    file: str
    sha256: str
    card: str | None
    notes: tuple[str, ...] = ()
    near_sha256: str | None = None

    def named(self) -> str:
        """Return its name and the beginning of its hashes."""
        near = f" and {self.near_sha256[:12]} for near plates" if self.near_sha256 else ""
        return f"{self.card or self.file} ({self.sha256[:12]}{near})"


def model_at(path: Path) -> Model:
    """Return the model at `path` and its card, the `.json` of the same name.

    Raises:
        ModelError: it can't be read, or the file beside it is no card.
    """
    try:
        sha256 = digest_of(path).hex()
        near_file = near_model(path)
        near = digest_of(near_file).hex() if near_file else None
        card_file = path.with_suffix(".json")
        text = card_file.read_text(encoding="utf-8") if card_file.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the model {path.name} can't be read: {explain(error)}") from error
    if text is None:
        return Model(path.name, sha256, None, (f"{path.name} has no card beside it",), near)
    try:
        card = json.loads(text)
        name, of = str(card["name"]), card["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"expected the model's card in {card_file.name}, with name and sha256"
        ) from error
    if of != sha256:
        note = f"{card_file.name} is the card of another model, so it is not named"
        return Model(path.name, sha256, None, (note,), near)
    return Model(path.name, sha256, name, near_sha256=near)
