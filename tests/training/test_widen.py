"""A network of twice the channels starts with the function of the smaller one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import DEFAULT_CFG

from plateblur import drawn
from training import train, widen
from training.checkout import ROOT
from training.train import PlateTrainer, without_one_to_one_head

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("training"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TensorBoard, in a whole training
]


def small_network(*, like_coco: bool = False) -> DetectionModel:
    """Return a yolo26n whose weights, biases and statistics all differ from their first values.

    Args:
        like_coco: with the 80 channels of a head that began with COCO's classes, as the shipped
            detector's did, instead of 64.
    """
    torch.manual_seed(7)
    network = DetectionModel("yolo26n.yaml", nc=1, verbose=False)
    if like_coco:
        network.load(DetectionModel("yolo26n.yaml", verbose=False), verbose=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.uniform_(module.weight, 0.7, 1.4)
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias)
    return without_one_to_one_head(network).eval()


def written(network: DetectionModel, run: Path) -> Path:
    """Return the checkpoint of a run that ended with this network."""
    weights = run / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    network.names = {0: "plate"}
    torch.save({"model": network, "train_args": {"task": "detect"}}, weights)
    (run / "run.json").write_text('{"config": {"input_size": 64}, "data_sets": []}')
    return weights


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("like_coco", [False, True], ids=["64 channels", "80 channels"])
def test_the_wide_network_finds_the_same(noise: float, like_coco: bool) -> None:
    narrow = small_network(like_coco=like_coco)
    wide = without_one_to_one_head(DetectionModel("yolo26s.yaml", nc=1, verbose=False))
    before, _ = widen.difference(narrow, wide)
    widen.fill(wide, narrow, noise=noise, seed=0)
    boxes_px, confidence = widen.difference(narrow, wide)
    assert boxes_px < 0.01 < before
    assert confidence < 1e-4


def test_copies_do_not_learn_the_same() -> None:
    narrow = small_network()
    wide = without_one_to_one_head(DetectionModel("yolo26s.yaml", nc=1, verbose=False))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def alike(noise: float) -> float:
        """Return the cosine between the gradients of two copies in the first layer."""
        widen.fill(wide, narrow, noise=noise, seed=0)
        wide.zero_grad()
        sum(out.square().mean() for out in wide.train()(image)["feats"]).backward()
        first, second = wide.model[0].conv.weight.grad.flatten(1).reshape(16, 2, -1).unbind(1)
        return torch.cosine_similarity(first, second).mean().item()

    assert alike(0.0) > 0.999
    assert alike(0.5) < 0.99


def test_other_layers_are_refused() -> None:
    medium = without_one_to_one_head(DetectionModel("yolo26m.yaml", nc=1, verbose=False))
    with pytest.raises(ValueError, match="different layers"):
        widen.fill(medium, small_network(), noise=0.0, seed=0)


def test_training_starts_with_every_tensor_and_the_loss_of_the_small_network(
    tmp_path: Path,
) -> None:
    small = written(small_network(like_coco=True), tmp_path / "small")
    widen.main([str(small), "--out", str(tmp_path / "wide")])
    made = tmp_path / "wide" / "weights" / "widened.pt"

    def started(weights: Path) -> Any:
        """Return the network that the trainer makes of a checkpoint."""
        checkpoint, _ = load_checkpoint(weights)
        trainer = object.__new__(PlateTrainer)
        trainer.model, trainer.args = None, SimpleNamespace(**vars(DEFAULT_CFG))
        trainer.data = {"nc": 1, "channels": 3, "names": {0: "plate"}}
        network = trainer.get_model(checkpoint.yaml, checkpoint, verbose=False)
        mine, theirs = network.state_dict(), checkpoint.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
        network.args = DEFAULT_CFG
        return network

    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = {
        "img": image,
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.3, 0.6, 0.5, 0.3]]),
    }
    losses = [started(weights).eval().loss(batch)[0] for weights in (small, made)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.01, atol=0.01)

    record = json.loads((tmp_path / "wide" / "run.json").read_text())
    assert record["config"]["input_size"] == 64
    assert record["widened"] == {"to": "yolo26s.yaml", "noise": widen.NOISE, "seed": 0}
    with pytest.raises(FileExistsError):
        widen.main([str(made), "--out", str(tmp_path / "small")])


def test_a_step_of_training_runs_from_it(tmp_path: Path) -> None:
    data = tmp_path / "set"
    drawn.write_set(data, count=8, seed=7, image_hw=(270, 480), split_shares=(0.5, 0.5, 0.0))
    # As it is first made, because ultralytics plots what it finds, and needs x1 < x2.
    small = written(DetectionModel("yolo26n.yaml", nc=1, verbose=False), tmp_path / "small")
    widen.main([str(small), "--out", str(tmp_path / "wide")])
    config = ROOT / "training" / "configs" / "smoke.yaml"
    words = [str(config), "--data", str(data / "data.yaml"), "--run", str(tmp_path / "mine")]
    made = tmp_path / "wide" / "weights" / "widened.pt"
    train.main([*words, "--weights", str(made), "--set", "model=yolo26s.pt", "--device", "cpu"])
    record = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert record["weights"] == "widened.pt"
    assert record["weights_run"]["widened"]["to"] == "yolo26s.yaml"
    trained, _ = load_checkpoint(tmp_path / "mine" / "weights" / "best.pt")
    assert trained.model[0].conv.out_channels == 32
