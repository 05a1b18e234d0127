"""The README.md of an exported model."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from resnetctl.data import imagenet
from resnetctl.engine.model_card import model_card
from resnetctl.model.description import Measured
from resnetctl.model.export_timm import write_timm
from resnetctl.recipe import load_recipe
from tests.fixtures.checkpoints import metadata
from tests.fixtures.models import network
from tests.fixtures.photos import tile
from tests.model.test_description import DESCRIPTION

CLASSES = ("cat", "dog", "eel", "gnu", "yak", "ox")
PLAIN = replace(DESCRIPTION, classes=CLASSES, class_names=("Cat", *CLASSES[1:]))


def test_its_parts():
    card = model_card(PLAIN, metadata(recipe=load_recipe("small"), epoch=2.5), "m")
    assert re.findall("^#+ (.*)$", card, re.MULTILINE)[:6] == [
        "resnet18, first, step 7",
        "Usage",
        "Data",
        "Results",
        "Limits",
        "Recipe",
    ]
    assert "Trained on 70 images, up to epoch 2.5." in card
    assert "0. cat: Cat\n1. dog\n" in card
    assert "moving average" in card
    # Wilson's interval of 401 of 500
    assert "| top-1 | 80.20 | 76.48 to 83.46 |" in card
    assert "| top-5 |" not in card  # which was not measured
    assert "[optimizer]\n" in card


def test_the_head_is_what_the_hub_reads():
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(model_card(PLAIN, None, "m").split("---\n")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("timm", "image-classification")
    assert "datasets" not in head


@pytest.mark.parametrize("measured", [None, Measured(images=50_000, top1=80.858, top5=95.434)])
def test_a_file_with_a_thousand_outputs_is_not_said_to_be_imagenets(measured):
    wnids = imagenet.wnids()
    card = model_card(replace(PLAIN, classes=wnids, class_names=wnids, measured=measured), None, "m")
    assert ("- imagenet-1k" in card) == (measured is not None)
    assert ("were not evaluated" in card) == (measured is None)


def test_names_are_text_and_no_markup():
    odd = ("<script>alert(1)</script>", "[x](http://y)", "*b*", "a\nb", "\x1b[31m", "# h")
    card = model_card(replace(PLAIN, classes=odd, class_names=odd, source="<b>first"), None, "m")
    assert "<script>" not in card
    assert "<b>" not in card
    assert "](http" not in card
    assert "\x1b" not in card
    assert "3. a\\\\nb" in card


def test_its_code_runs(tmp_path):
    """The Python of its usage, as it stands there, in the folder beside the model's."""
    pytest.importorskip("timm")
    folder = tmp_path / 'it\'s "m"'
    write_timm(network(6), PLAIN, model_card(PLAIN, None, folder.name), folder)
    tile(1, 90, 60).save(tmp_path / "image.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"\d+\.\d% (cat|dog|eel|gnu|yak|ox)", line) for line in lines)
