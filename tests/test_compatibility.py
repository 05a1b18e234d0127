"""Files that the version before wrote are read by this one."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from resnetctl.data.dataset import load_dataset
from resnetctl.data.verify import verify
from resnetctl.engine.inference import load_model
from resnetctl.engine.trainer import Trainer
from resnetctl.model.resnet import build_model
from resnetctl.recipe import Override, change_recipe, recipe_to_dict
from resnetctl.runs.checkpoint import Checkpoint, load_file
from resnetctl.runs.metadata import read_metadata

BEFORE = Path(__file__).parent / "fixtures" / "before"
CPU = torch.device("cpu")


def test_a_data_set_is_read(tmp_path):
    shutil.copytree(BEFORE, tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    assert [r.name for r in dataset.train()] == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"]
    assert verify(tmp_path / "data", workers=0).ok  # the CRCs that it kept are those of the images


def checkpoint(tmp_path: Path) -> Checkpoint:
    """Its metadata as they were, of a smaller network so that the test is quick."""
    document = json.loads((BEFORE / "checkpoint.json").read_text())
    recipe = change_recipe(read_metadata(document).recipe, [Override("model.arch", "resnet18", "test")])
    document["recipe"] = {**document["recipe"], "model": recipe_to_dict(recipe)["model"]}
    network = build_model(recipe.model, 10)
    tensors = {f"model.{k}": t for k, t in network.state_dict().items()}
    tensors |= {f"optimizer.momentum_buffer.{k}": torch.ones_like(p.data) for k, p in network.named_parameters()}
    tensors |= {"progress.loss_sum": torch.zeros(1), "progress.running_loss": torch.zeros(1)}
    path = tmp_path / "step-00000010.safetensors"
    save_file(
        {k: t.contiguous() for k, t in tensors.items()}, path, {"resnetctl": json.dumps({"format": 1, **document})}
    )
    return load_file(path)


def test_a_checkpoint_is_evaluated(tmp_path):
    found = checkpoint(tmp_path)
    assert (found.metadata.step, found.metadata.classes[0]) == (10, "0-t-shirt-top")
    logits = load_model(found, CPU, lambda text: None).logits(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert logits.shape == (2, 10)


def test_a_run_is_resumed(tmp_path):
    found = checkpoint(tmp_path)
    trainer = Trainer(found.metadata.recipe, 10, CPU, torch.float32)
    trainer.restore(found.tensors)
    assert trainer.tensors().keys() == found.tensors.keys()
    assert all(torch.equal(t, found.tensors[k]) for k, t in trainer.tensors().items())
