"""Every way in which people hold ImageNet leads to the same images with the same labels."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.copies.from_source import Copying
from resnetctl.data.copies.pack import Packing
from resnetctl.data.dataset import Dataset
from resnetctl.data.prepare import prepare
from resnetctl.data.sources import SOURCES, recognised
from resnetctl.errors import DataError, ResnetctlError
from tests.fixtures.holdings import IMAGENETTE, KAGGLE, Holding, write_parquet
from tests.fixtures.imagenet_archives import DEVKIT


@pytest.fixture(scope="module")
def held() -> Holding:
    return Holding()


def contents(dataset: Dataset) -> dict[str, dict[str, tuple[bytes, int]]]:
    return {
        split: {r.name: (index.read(i), r.label) for i, r in enumerate(index)}
        for split in dataset.fingerprints
        if (index := dataset.open(split))
    }


ROUTES: dict[str, Callable[[Holding, Path], Path]] = {
    "official": Holding.official,
    "folder": Holding.folders,
    "flat": Holding.flat,
    "kaggle zip, stored and deflated": lambda h, root: h.kaggle_zip(
        root / "imagenet-object-localization-challenge.zip"
    ),
    "kaggle zip of another name": lambda h, root: h.kaggle_zip(root / "from kaggle.zip"),
    "kaggle zip, nested": lambda h, root: h.kaggle_nested(root / "imagenet-object-localization-challenge.zip").parent,
    "flat, kaggle unpacked": Holding.kaggle_tree,
    "flat, kaggle's inner folder": lambda h, root: h.kaggle_tree(root) / KAGGLE,
    "parquet": Holding.parquet,
}


@pytest.mark.parametrize("route", ROUTES)
def test_the_labels_of_every_route_are_identical(held: Holding, tmp_path: Path, route: str) -> None:
    root = ROUTES[route](held, tmp_path / "in")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "in").rglob("*")}
    done = prepare(tmp_path / "data", root, allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert done.dataset.name == "imagenet-1k"
    assert done.dataset.source == ("shards" if route == "parquet" else route.partition(" ")[0].strip(","))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "in").rglob("*")} == before
    train, val = done.dataset.train(), done.dataset.val()
    assert train.info.classes == imagenet.wnids()
    assert (train.height > 0).all()
    assert (val.width > 0).all()
    again = prepare(tmp_path / "other", held.official(tmp_path / "official"), allow_incomplete=True).dataset
    assert done.dataset.fingerprints == again.fingerprints  # deflated, packed or plain: the same data set
    small = sum(p.stat().st_size for p in (tmp_path / "data").rglob("*.safetensors"))
    if "nested" not in route and route != "parquet":  # nothing but indexes is written
        assert sum(p.stat().st_size for p in (tmp_path / "data").rglob("*") if p.is_file()) < small + 5000


def test_anchors_and_traps_in_the_fixture_itself(held: Holding) -> None:
    val = held.contents()["val"]
    assert val["n01751748/ILSVRC2012_val_00000001.JPEG"][1] == 65
    names = imagenet.names_of(tuple(sorted({n.partition("/")[0] for n in val})))
    assert names.count("crane") == 2
    assert names.count("maillot") == 2


def test_imagenette(held: Holding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetctl.data.sources.imagenette._MD5", {})
    archive = held.imagenette(tmp_path / "in" / "imagenette2-160.tgz")
    done = prepare(tmp_path / "data", archive)
    expected = held.contents()
    label = {wnid: k for k, wnid in enumerate(IMAGENETTE)}
    for split, found in contents(done.dataset).items():
        whole = {n: d for n, (d, _) in expected[split].items() if n.partition("/")[0] in label}
        assert found == {n: (d, label[n.partition("/")[0]]) for n, d in whole.items()}
    assert done.dataset.source == "imagenette"
    assert done.dataset.train().info.class_names[:2] == ("tench", "English springer")
    assert any("noisy_imagenette.csv" in text for text in done.notices)
    assert prepare(tmp_path / "data").dataset.fingerprints == done.dataset.fingerprints


def test_imagenette_with_another_md5_is_refused(held: Holding, tmp_path: Path) -> None:
    archive = held.imagenette(tmp_path / "in" / "imagenette2-160.tgz")
    with pytest.raises(DataError, match="should be md5:e793b78cc4c9e9a4ccc0c1155377a412"):
        prepare(tmp_path / "data", archive)


def test_flat_val_with_the_devkit_beside_it_or_nothing_at_all(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    (root / "LOC_val_solution.csv").unlink()
    done = prepare(tmp_path / "a", root, allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert any("resnetctl's own table" in text for text in done.notices)
    held.devkit(root / DEVKIT)
    shutil.rmtree(root / "made")
    done = prepare(tmp_path / "b", root, "flat", allow_incomplete=True)
    assert contents(done.dataset) == held.contents()
    assert not any("own table" in text for text in done.notices)


def test_flat_val_images_of_unknown_label_are_refused(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    shutil.copy(root / "val" / held.val[0][0], root / "val" / "holiday.JPEG")
    with pytest.raises(DataError, match=r"no label for holiday\.JPEG"):
        prepare(tmp_path / "data", root, allow_incomplete=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "does not begin with"),
        ("ImageId,PredictionString\n", "no images"),
        ("ImageId,PredictionString\na,n01440764 1\na,n01440764 1\n", "names a twice"),
        ("ImageId,PredictionString\na,tench\n", "line 2 has no wnid"),
        ("ImageId,PredictionString\n\x00\x00,\n", "damaged"),
    ],
)
def test_a_damaged_solution(held: Holding, tmp_path: Path, text: str, match: str) -> None:
    root = held.flat(tmp_path / "in")
    (root / "LOC_val_solution.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        prepare(tmp_path / "data", root, allow_incomplete=True)


def test_fault_11_a_solution_of_another_length_is_named(held: Holding, tmp_path: Path) -> None:
    root = held.flat(tmp_path / "in")
    lines = (root / "LOC_val_solution.csv").read_text().splitlines()
    (root / "LOC_val_solution.csv").write_text("\n".join([*lines, "ILSVRC2012_val_00049999,n01440764 1 2 3 4"]))
    with pytest.raises(DataError, match=r"n01440764 \(4 of 5\)"):
        prepare(tmp_path / "data", root)


def test_a_kaggle_zip_with_a_strange_image(held: Holding, tmp_path: Path) -> None:
    path = held.kaggle_zip(tmp_path / "in" / "imagenet-object-localization-challenge.zip")
    for name in (
        f"{KAGGLE}/train/n01440764/n02102040_5.JPEG",
        f"{KAGGLE}/val/x.JPEG",
        f"{KAGGLE}/train/n99999999/n99999999_1.JPEG",
    ):
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        with zipfile.ZipFile(copy, "a") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(DataError, match="are expected"):
            prepare(tmp_path / "data", copy, allow_incomplete=True)


def test_a_kaggle_zip_cut_or_changed(held: Holding, tmp_path: Path) -> None:
    path = held.kaggle_zip(tmp_path / "in" / "imagenet-object-localization-challenge.zip")
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            prepare(tmp_path / "data", path.parent, allow_incomplete=True)
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]


def test_parquet_rows_whose_label_is_not_their_own(held: Holding, tmp_path: Path) -> None:
    root = held.parquet(tmp_path / "in")
    image = held.train["n01440764"][0][1]
    path = root / "data" / "train-00001-of-00003.parquet"
    for name, label in (("n01440764_18_n01440764.JPEG", 1), ("n01440764_18_n01443537.JPEG", 0), ("x.JPEG", 0)):
        write_parquet(path, [(name, image, label)])
        with pytest.raises(DataError, match=r"contradicts its name|not an ImageNet image"):
            prepare(tmp_path / name, root, allow_incomplete=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / "cut", root, allow_incomplete=True)
    path.unlink()
    with pytest.raises(DataError, match="1 of the train parquet files are missing, the first of them 00001"):
        prepare(tmp_path / "missing", root)


def test_parquet_without_pyarrow_says_what_to_install(
    held: Holding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    root = held.parquet(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ResnetctlError, match="pyarrow") as caught:
        prepare(tmp_path / "data", root, allow_incomplete=True)
    assert caught.value.hint == 'pip install "resnetctl[parquet]"'


def test_parquet_can_be_shrunk_on_the_way(held: Holding, tmp_path: Path) -> None:
    copying = Copying(packing=Packing(max_side=16))
    dataset = prepare(tmp_path / "data", held.parquet(tmp_path / "in"), allow_incomplete=True, copying=copying).dataset
    train = dataset.train()
    assert max(train.height.max(), train.width.max()) == 16
    assert {r.name: r.label for r in train} == {n: label for n, (_, label) in held.contents()["train"].items()}


def test_a_nested_archive_that_is_damaged_or_a_bomb(held: Holding, tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "in" / "imagenet_object_localization_patched2019.tar.gz"
    path.parent.mkdir()
    for content in (b"", b"\x1f\x8b", gzip.compress(bytes(100))[:-5], gzip.compress(bytes(200 << 20), 1)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            prepare(tmp_path / "data", path, allow_incomplete=True)
        assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]


def test_every_kind_is_recognised_and_explained(held: Holding, tmp_path: Path) -> None:
    for number, (route, make) in enumerate(ROUTES.items()):
        assert recognised(make(held, tmp_path / str(number)))[0] == route.partition(" ")[0].strip(",")
    assert all(len(text) > 20 for text in SOURCES.values())
