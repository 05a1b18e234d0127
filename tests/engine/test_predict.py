import numpy as np
import pytest
import torch
from PIL import Image

from resnetctl.data.index import Index
from resnetctl.engine.inference import Model
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.predict import predict
from resnetctl.recipe import DataRecipe
from tests.engine.test_evaluate import CPU, MEAN, STD, by_hand, tiny
from tests.fixtures.imagenet_archives import jpeg
from tests.fixtures.photos import tile
from tests.fixtures.small_index import pictures, write_index

DATA = DataRecipe(val_resize=36, val_size=32)


def used(network: torch.nn.Module) -> Model:
    return Model(network=network.eval(), normalise=Normalise(MEAN, STD, CPU), device=CPU, precision=torch.float32)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_sets_pictures_are_predicted_as_in_evaluation(workers, tmp_path):
    path, network = write_index(tmp_path, pictures(9, 20), split="val"), tiny(9)
    index = Index(path)
    files = [str(tmp_path / "val" / r.name) for r in index]
    batches = list(predict(used(network), DATA, files, workers=workers))
    assert [len(b) for b in batches] == [64, 64, 52]
    found = [p for b in batches for p in b]
    assert [p.file for p in found] == files
    correct1, correct5, _ = by_hand(network, path)
    assert sum(p.labels[0] == r.label for p, r in zip(found, index, strict=True)) == correct1
    assert sum(r.label in p.labels for p, r in zip(found, index, strict=True)) == correct5


def test_probabilities_are_those_of_all_classes(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    network = tiny(3)
    ((prediction,),) = predict(used(network), DATA, [str(tmp_path / "a.jpg")], workers=0)
    assert sorted(prediction.labels) == [0, 1, 2]
    assert sum(prediction.probabilities) == pytest.approx(1)
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)


def test_the_reason_of_an_unreadable_picture_is_told_and_the_rest_done(tmp_path):
    (tmp_path / "good.jpg").write_bytes(jpeg(1))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "empty.jpg").touch()
    names = ["bad.jpg", "good.jpg", "empty.jpg", "gone.jpg"]
    ((bad, good, empty, gone),) = predict(used(tiny(3)), DATA, [str(tmp_path / n) for n in names], workers=0)
    assert (bad.labels, bad.problem) == ((), "not an image that can be read: unknown kind")
    assert (len(good.labels), good.problem) == (3, None)
    assert empty.problem == "not an image that can be read: empty file"
    assert gone.problem == "cannot be read: No such file or directory"


def answers(network, *files):
    ((*found,),) = predict(used(network), DATA, [str(f) for f in files], workers=0)
    assert all(p.problem is None for p in found)
    return [(p.labels, p.probabilities) for p in found]


def save(image, path, **options):
    image.save(path, **options)
    return path


def test_a_cmyk_jpeg_is_seen_in_its_colours(tmp_path):
    cmyk = save(tile(1, 90, 70).convert("CMYK"), tmp_path / "a.jpg")
    rgb = save(Image.open(cmyk).convert("RGB"), tmp_path / "b.png")
    (labels, shares), (expected_labels, expected) = answers(tiny(6), cmyk, rgb)
    assert labels == expected_labels
    assert shares == pytest.approx(expected, abs=0.01)


def test_a_png_of_16_bits_is_not_all_white(tmp_path):
    gray = np.asarray(tile(1, 90, 70).convert("L"))
    plain = save(Image.fromarray(gray), tmp_path / "8.png")
    deep = save(Image.fromarray(gray.astype(np.uint16) << 8), tmp_path / "16.png")
    white = save(Image.new("L", (90, 70), 255), tmp_path / "white.png")
    first, second, third = answers(tiny(6), plain, deep, white)
    assert first == second != third


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animated_picture_the_first_one_counts(name, tmp_path):
    frames = [tile(n, 64, 64).quantize(64).convert("RGB") for n in range(3)]
    options = {"lossless": True} if name == "a.webp" else {}
    moving = save(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], duration=100, **options)
    still = save(Image.open(moving).convert("RGB"), tmp_path / "still.bmp")
    last = save(frames[2], tmp_path / "last.bmp")
    first, second, third = answers(tiny(6), moving, still, last)
    assert first == second != third


@pytest.mark.parametrize(
    ("way", "turn"), [(6, "ROTATE_90"), (3, "ROTATE_180"), (8, "ROTATE_270"), (2, "FLIP_LEFT_RIGHT")]
)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_picture_is_seen_the_way_up_that_exif_says(way, turn, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = way
    options = {"lossless": True} if suffix == ".webp" else {}
    upright = save(tile(3, 90, 60), tmp_path / "upright.png")
    turned = Image.open(upright).transpose(Image.Transpose[turn])
    stored = save(turned, tmp_path / "stored.png")
    first, second, third = answers(
        tiny(6), upright, save(turned, tmp_path / f"a{suffix}", exif=exif, **options), stored
    )
    assert first == second != third
