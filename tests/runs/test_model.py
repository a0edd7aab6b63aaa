"""The model of a run: named by its card, where the card is its own."""

from __future__ import annotations

import hashlib
import json
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from plateblur import cli
from plateblur.detector import model_file, offered_models, shipped_model
from plateblur.drawn import draw_scene
from plateblur.errors import ModelError
from plateblur.runs.model import model_at
from tests.clips import drawn_clip, driving
from tests.fakes import encoded, street

DATA = b"weights"
SHA256 = hashlib.sha256(DATA).hexdigest()


def written(folder: Path, card: str | None) -> Path:
    model = folder / "mine.onnx"
    model.write_bytes(DATA)
    if card is not None:
        (folder / "mine.json").write_text(card)
    return model


def test_a_model_is_named_by_its_card(tmp_path: Path) -> None:
    card = json.dumps({"name": "my-plates-1", "sha256": SHA256})
    found = model_at(written(tmp_path, card))
    assert (found.file, found.sha256, found.card) == ("mine.onnx", SHA256, "my-plates-1")
    assert found.named() == f"my-plates-1 ({SHA256[:12]})"
    assert found.notes == ()


def test_the_network_for_near_plates_is_a_part_of_its_name(tmp_path: Path) -> None:
    model = written(tmp_path, None)
    (tmp_path / "mine-near.onnx").write_bytes(b"near")
    near = hashlib.sha256(b"near").hexdigest()
    assert model_at(model).named() == f"mine.onnx ({SHA256[:12]} and {near[:12]} for near plates)"


def test_a_model_without_a_card_is_named_by_its_file(tmp_path: Path) -> None:
    found = model_at(written(tmp_path, None))
    assert found.named() == f"mine.onnx ({SHA256[:12]})"
    assert found.notes == ("mine.onnx has no card beside it",)


def test_the_card_of_another_model_is_not_believed(tmp_path: Path) -> None:
    card = json.dumps({"name": "better-plates", "sha256": "0" * 64})
    found = model_at(written(tmp_path, card))
    assert found.card is None
    assert "better-plates" not in found.named()
    assert found.notes == ("mine.json is the card of another model, so it is not named",)


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"name": "x"}', "null", "\xff"])
def test_what_is_no_card_is_refused(tmp_path: Path, card: str) -> None:
    model = written(tmp_path, None)
    (tmp_path / "mine.json").write_bytes(card.encode("latin-1"))
    with pytest.raises(ModelError, match=r"mine\.(json|onnx)"):
        model_at(model)


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothere\.onnx can't be read"):
        model_at(tmp_path / "nothere.onnx")


def test_the_shipped_model_has_its_own_card() -> None:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    found = model_at(shipped_model())
    assert found.card is not None
    assert found.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        *(["blur", "a.png", "-o", "out"], ["detect", "a.png"], ["video", "a.mp4", "-o", "b.mp4"]),
        *(["live", "a.mp4", "-o", "b.mp4"], ["demo", "--port", "0"], ["serve", "--port", "0"]),
    ],
    ids=lambda line: line[0],
)
def test_every_command_opens_the_model_that_is_named(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no model stops each; with the shipped one, they would go on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own handlers stay
    (tmp_path / "a.png").write_bytes(encoded(street(90, 140), "PNG"))
    (tmp_path / "a.mp4").write_bytes(drawn_clip(driving(3)))
    written(tmp_path, None)
    before = tempfile.gettempdir()
    result = CliRunner().invoke(cli.app, [*line, "--model", "mine.onnx"])
    assert result.exit_code in (1, 2), result.output
    assert "mine.onnx" in result.output
    assert tempfile.gettempdir() == before
    assert {path.name for path in tmp_path.glob("b*")} == set()
    assert list(tmp_path.rglob("out/*.png")) == []


def test_a_model_beside_the_default_is_named_by_one_word(tmp_path: Path) -> None:
    assert model_file("") == shipped_model()
    for name in offered_models():
        found = model_at(model_file(name))
        assert found.file == f"plates-{name}.onnx"
        assert found.card is not None
        assert found.card.endswith(f"-{name}")
        assert found.near_sha256 is None
    assert model_file("near") == Path("near")  # the network beside the default is no detector
    assert model_file(str(tmp_path / "mine.onnx")) == tmp_path / "mine.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("name", offered_models())
def test_each_model_beside_the_default_hides_the_plates_of_a_drawn_street(
    name: str, tmp_path: Path
) -> None:
    scene = draw_scene(3, image_hw=(540, 960), plates=2, ratios=(1 / 14, 1 / 10))
    (tmp_path / "a.png").write_bytes(encoded(scene.image, "PNG"))
    line = ["blur", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", name]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 0, result.output
    with PillowImage.open(tmp_path / "out" / "a.png") as written_photo:
        changed = np.abs(np.asarray(written_photo).astype(int) - scene.image).max(axis=2) > 0
    for x1, y1, x2, y2 in scene.xyxy.round().astype(int).tolist():
        assert changed[y1:y2, x1:x2].mean() > 0.9
    manifest = (tmp_path / "out" / "plateblur-manifest.jsonl").read_text()
    assert f"-{name} (" in manifest
