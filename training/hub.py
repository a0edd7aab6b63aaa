"""Push a model with its card to a hub such as Hugging Face's, and pull one from there.

    python -m training.hub push plateblur/models/plates.onnx --to NAME/plates
    python -m training.hub pull --from NAME/plates --out runs/pulled

It pushes the model with its card (`plates.json`) and a README.md made from it: intended use,
limits, figures, data sets with their licences. A pulled model must have the sha256 in its card.
The hub's token comes from `hf auth login`; `--endpoint` names a hub of your own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

from plateblur.detector import near_model
from training.card import NEAR, as_json, figures_table
from training.checkout import run_step

MODEL, CARD = "plates.onnx", "plates.json"
NEAR_CARD = str(Path(NEAR).with_suffix(".json"))  # both where a model has such a network


def push(model: Path, *, to: str, endpoint: str | None = None, private: bool = True) -> str:
    """Send a model, its card and a README in one commit; return the commit's address.

    Its network for near plates goes along, with its card.

    Args:
        model: an ONNX file with its card beside it, as `training/promote.py` writes both.
        to: repository, "name/model"; created if absent.
        endpoint: address of the hub; Hugging Face's without it.
        private: make a new repository private.

    Raises:
        ValueError: there is no card, or it belongs to another file.
    """
    card_file = model.with_suffix(".json")
    if not card_file.exists():
        raise ValueError(f"expected the card {card_file} beside the model, found none")
    card = json.loads(card_file.read_text(encoding="utf-8"))
    require_card_of(model, card)
    api = HfApi(endpoint=endpoint)
    api.create_repo(to, private=private, exist_ok=True)
    contents = {MODEL: model.read_bytes(), CARD: as_json(card), "README.md": readme(card).encode()}
    if near := near_model(model):
        contents |= {NEAR: near.read_bytes(), NEAR_CARD: near.with_suffix(".json").read_bytes()}
    commit = api.create_commit(
        to,
        [CommitOperationAdd(name, content) for name, content in contents.items()],
        commit_message=f"{card['name']}, {card['date']}",
    )
    return str(commit.commit_url)


def pull(
    repository: str, *, out: Path, endpoint: str | None = None, revision: str | None = None
) -> Path:
    """Fetch a model with its card and return the model's path.

    Args:
        repository: "name/model".
        out: folder, made here.
        endpoint: address of the hub; Hugging Face's without it.
        revision: branch, tag or commit.

    Raises:
        ValueError: the model doesn't match its card.
    """

    def fetch(name: str) -> Path:
        return Path(
            hf_hub_download(repository, name, revision=revision, endpoint=endpoint, local_dir=out)
        )

    card = json.loads(fetch(CARD).read_text(encoding="utf-8"))
    got = [fetch(MODEL)]
    if card.get("near"):
        got += [fetch(NEAR), fetch(NEAR_CARD)]
    try:
        require_card_of(got[0], card)
    except ValueError:
        for file in got:
            file.unlink()
        raise
    return got[0]


def require_card_of(model: Path, card: Mapping[str, Any]) -> None:
    """Refuse a card that belongs to another file, or to another network for near plates.

    Raises:
        ValueError: with both hashes.
    """
    near = near_model(model)
    for file, known in ((model, card["sha256"]), (near, (card.get("near") or {}).get("sha256"))):
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest() if file else None
        if sha256 != known:
            raise ValueError(
                f"expected {file.name if file else NEAR} of the card, sha256 "
                f"{(known or 'none')[:12]}, got {(sha256 or 'none')[:12]}"
            )


def readme(card: Mapping[str, Any]) -> str:
    """Return the hub's page of a model: its metadata in YAML, and the card as text."""
    sets = [
        f"- {one['set']}: {one['licence'] or 'licence not stated'}" for one in card["data_sets"]
    ]
    return "\n".join(
        [
            *("---", f"license: {card['licence'].lower()}", "pipeline_tag: object-detection"),
            *("library_name: onnx", "tags:", "- licence-plates", "- anonymisation", "---", ""),
            *(f"# {card['name']}", "", card["intended_use"], "", "## Limits", ""),
            *(f"- {limit}" for limit in card["limits"]),
            *("", "## Figures", "", *figures_table(card["figures"]), "", "## Data sets", ""),
            *sets,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and push or pull."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    send = steps.add_parser("push", help="a model with its card")
    send.add_argument("model", type=Path)
    send.add_argument("--to", required=True, metavar="NAME/MODEL")
    send.add_argument("--public", action="store_true", help="make a new repository public")
    fetch = steps.add_parser("pull", help="a model with its card")
    fetch.add_argument("--from", dest="repository", required=True, metavar="NAME/MODEL")
    fetch.add_argument("--out", type=Path, required=True, help="folder, made here")
    fetch.add_argument("--revision", help="branch, tag or commit")
    for step in (send, fetch):
        step.add_argument("--endpoint", help="address of a hub of your own")
    given = parser.parse_args(argv)
    if given.step == "push":
        done = push(given.model, to=given.to, endpoint=given.endpoint, private=not given.public)
    else:
        done = str(
            pull(given.repository, out=given.out, endpoint=given.endpoint, revision=given.revision)
        )
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    run_step(main)
