import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from resnetctl.errors import ResnetctlError
from resnetctl.model.description import KEY, Measured, ModelDescription, Preprocessing, description_in, read_description

ODD = ("[/red]", "ü\x1b[31m", "a\nb", "\udcff", '"; rm -rf', "日本", "")
DESCRIPTION = ModelDescription(
    arch="resnet18",
    blurpool=False,
    blurpool_max=False,
    classes=ODD,
    class_names=ODD[::-1],
    preprocessing=Preprocessing(
        resize=36, crop=32, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    ),
    source="first, step 7",
    recipe="small",
    moving_average=True,
    measured=Measured(images=500, top1=80.2, top5=None),
    written_by="resnetctl 1",
)


def test_it_reads_back_whatever_the_classes_are_called(tmp_path):
    text = DESCRIPTION.to_text()
    assert text.isascii()
    assert read_description(text, tmp_path) == DESCRIPTION


def test_people_find_the_network_and_the_classes_in_plain_json():
    document = json.loads(DESCRIPTION.to_text())
    assert document["network"] == "resnet18"
    assert document["classes"] == list(ODD)
    assert document["preprocessing"]["mean"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("blurpool", "blurpool_max", "name"),
    [(False, False, "resnet18"), (True, False, "resnet18-blurpool"), (True, True, "resnet18-blurpool-max")],
)
def test_a_network_with_blurpool_is_called_so(blurpool, blurpool_max, name):
    assert replace(DESCRIPTION, blurpool=blurpool, blurpool_max=blurpool_max).network == name


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a"]},
        {"classes": [], "class_names": []},
        {"arch": 18},
        {"preprocessing": {"resize": 36}},
        {"novelty": 1},
        {"measured": {"images": "many", "top1": 1.0, "top5": None}},
    ],
)
def test_what_makes_no_sense_is_refused(change, tmp_path):
    text = json.dumps({**json.loads(DESCRIPTION.to_text()), **change})
    with pytest.raises(ResnetctlError, match="invalid description") as caught:
        read_description(text, tmp_path / "x.safetensors")
    assert "export the run again" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_what_is_no_table_is_refused(text, tmp_path):
    with pytest.raises(ResnetctlError, match="invalid description"):
        read_description(text, tmp_path)


def test_other_files_say_nothing(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    (tmp_path / "w.pth").write_bytes(b"x")
    for name in ("plain.safetensors", "bad.safetensors", "gone.safetensors", "w.pth"):
        assert description_in(tmp_path / name) is None


def test_a_file_that_describes_its_model(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors", {KEY: DESCRIPTION.to_text()})
    assert description_in(tmp_path / "x.safetensors") == DESCRIPTION
