import json
import re
import signal
import sys
from pathlib import Path

import pytest

from resnetctl.cli.app import run
from resnetctl.data import imagenet
from tests.fixtures.imagenet_archives import DEVKIT, TRAIN, VAL, jpeg, official
from tests.moments import kill_before
from tests.process import call

WNIDS = imagenet.wnids()[::250]


def test_bare_prepare_with_nothing_there_says_how_to_start(cli, tmp_path: Path) -> None:
    done = cli("prepare")
    assert (done.returncode, done.stdout) == (3, "")
    for text in ("resnetctl prepare --source sample", "image-net.org", "kaggle.com", "huggingface.co", TRAIN, DEVKIT):
        assert text in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_sample(cli, tmp_path: Path) -> None:
    done = cli("prepare", "--source", "sample")
    assert done.returncode == 0
    head, train, val = done.stdout.splitlines()
    assert head.split()[:4] == ["split", "images", "classes", "source"]
    assert train.split()[:4] == ["train", "2000", "10", "sample"]
    assert val.split()[:4] == ["val", "500", "10", "sample"]
    assert "resnetctl train --epochs 10\n" in done.stderr
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert described["recipe"] == "tiny"
    assert (described["classes"], described["train"], described["val"]) == (10, 2000, 500)
    assert cli("prepare").stdout == done.stdout  # again, from what was prepared before


def test_json_is_one_document(cli) -> None:
    done = cli("prepare", "--source", "sample", "--json")
    document = json.loads(done.stdout)
    assert list(document)[:3] == ["kind", "version", "data"]
    assert (document["kind"], document["version"], document["data"]) == ("prepare", 1, "data")
    assert document["splits"]["train"]["images"] == 2000
    assert document["incomplete"] is None
    assert document["name"] == "fashion-mnist-sample"


def test_what_lies_in_data_is_recognised(cli, tmp_path: Path) -> None:
    official(WNIDS).write(tmp_path / "data")
    done = cli("prepare", "-q")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:4] == ["train", "12", "4", "official"]
    assert done.stderr == ""


def test_an_incomplete_set_is_refused_or_taken_with_a_warning(cli, tmp_path: Path) -> None:
    made = official(WNIDS)
    made.train[WNIDS[0]].pop()
    made.write(tmp_path / "in")
    refused = cli("prepare", "in")
    assert refused.returncode == 3
    assert f"{WNIDS[0]} (2 of 3)" in refused.stderr
    assert "--allow-incomplete" in refused.stderr
    taken = cli("prepare", "in", "--allow-incomplete")
    assert taken.returncode == 0
    assert "warning: the data set is incomplete" in taken.stderr
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["incomplete"].startswith("train has 11 of 12")


def test_an_empty_class_is_named(cli, tmp_path: Path) -> None:
    for name in ("cat", "[red]emu"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
    (tmp_path / "pets" / "train" / "cat" / "1.jpg").write_bytes(jpeg(1))
    done = cli("prepare", "pets")
    assert done.returncode == 3
    assert "train has no images of [red]emu" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("--source", "smaple"), 2, "did you mean sample?"),
        (("--source", "xyz"), 2, "one of: shards, official, kaggle"),
        (("nowhere",), 3, "nowhere does not exist"),
        (("--source", "folder", "."), 3, "has neither a train/ folder nor"),
        (("--source", "official", "."), 3, f"has neither {TRAIN}"),
    ],
)
def test_mistakes(cli, args: tuple[str, ...], code: int, text: str) -> None:
    done = cli("prepare", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "hint:" in done.stderr


def prepare_and_interrupt(*args: str) -> None:
    """Prepare; Ctrl-C comes when the index is about to get its name."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    kill_before(("rename *train.index.safetensors", 1), signal.SIGINT)
    sys.exit(run(["prepare", *args]))


def test_ctrl_c_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "tree" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "tree" / "train" / "cat" / "image.jpg").write_bytes(jpeg(1))
    done = call(prepare_and_interrupt, tmp_path / "tree", "--data", tmp_path / "data")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]


def test_pack_then_train_on_the_shards_alone(cli, tmp_path: Path) -> None:
    cli("prepare", "--source", "sample", "--data", "made")
    done = cli("prepare", "made", "--source", "sample", "--pack", "--shard-size", "700", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:4] == ["train", "2000", "10", "shards"]
    assert "packing (MB)" in done.stderr
    (tmp_path / "made").rename(tmp_path / "gone")
    shards = sorted(p.name for p in (tmp_path / "data" / "shards").glob("*.tar"))
    assert shards == ["train-00000.tar", "train-00001.tar", "train-00002.tar", "val-00000.tar"]
    assert cli("verify", "--archives", "-q").returncode == 0
    trained = cli("train", "--max-steps", "2", "--batch-size", "16", "--workers", "1", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["recipe"] == "tiny"


def test_extract_then_train(cli, tmp_path: Path) -> None:
    official(WNIDS).write(tmp_path / "in")
    done = cli("prepare", "in", "--extract")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data" / "train").rglob("*.JPEG"))) == 12
    again = cli("prepare")
    assert again.stdout.splitlines()[1].split()[:4] == ["train", "12", "4", "folder"]


def test_a_val_split_is_drawn(cli, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(10):
            (tmp_path / "pets" / name / f"{n}.jpg").write_bytes(jpeg(n))
    bare = cli("prepare", "pets")
    assert bare.returncode == 0
    assert "--val-fraction 0.1" in bare.stderr
    done = cli("prepare", "pets", "--val-fraction", "0.2", "--seed", "1", "--json")
    assert json.loads(done.stdout)["splits"]["val"]["images"] == 4
    assert "drawn with seed 1" in done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--pack", "--extract"), "cannot be combined"),
        (("--max-side", "200"), "need --pack"),
        (("--val-fraction", "0"), "would leave val empty"),
        (("--val-fraction", "0.9"), "between 0.0 and 0.5"),
    ],
)
def test_flags_that_do_not_fit(cli, args: tuple[str, ...], text: str) -> None:
    done = cli("prepare", "--source", "sample", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def make_wrong_sources(root: Path) -> None:
    (root / "photo.jpg").write_bytes(jpeg(1))
    (root / "my.tar").write_bytes(b"no tar" * 1000)
    (root / "my.7z").write_bytes(b"7z")
    (root / "readme").write_text("hello")
    (root / "empty").mkdir()
    (root / "loose").mkdir()
    (root / "loose" / "1.jpg").write_bytes(jpeg(1))
    (root / "text only" / "a").mkdir(parents=True)
    (root / "text only" / "b").mkdir()
    (root / "only val" / "val" / "a").mkdir(parents=True)
    for split, name in (("train", "cat"), ("val", "dog")):
        (root / "differ" / split / name).mkdir(parents=True)
        (root / "differ" / split / name / "1.jpg").write_bytes(jpeg(1))
    swapped = official(WNIDS).write(root / "swapped")
    (swapped / TRAIN).rename(root / "t")
    (swapped / VAL).rename(swapped / TRAIN)
    (root / "t").rename(swapped / VAL)
    only_val = official(WNIDS).write(root / "swapped val")
    (only_val / VAL).write_bytes((only_val / TRAIN).read_bytes())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("photo.jpg", "photo.jpg is a single image"),
        ("my.tar", "my.tar is damaged"),
        ("my.7z", "my.7z is not a supported data set"),
        ("readme", "readme is not a supported data set"),
        ("empty", "empty is empty"),
        ("loose", "no supported data set found in ./loose: images, but no class folders"),
        ("text only", "./text only: 2 folders, but neither train/"),
        ("only val", "./only val: it has val/, but no train/"),
        ("differ", "val/ has class folders that are missing from train/: dog"),
        ("swapped", f"{TRAIN} holds ILSVRC2012_val_00000001.JPEG, which belongs in {VAL}"),
        ("swapped val", f"tar, which belongs in {TRAIN}"),
        ("https://image-net.org/data/x.tar", "is a URL"),
        ("~/nothing-of-that-name", "/nothing-of-that-name"),
        ("/dev/null", "/dev/null is neither a file nor a folder"),
    ],
)
def test_what_is_no_data_set_is_explained(cli, tmp_path: Path, source: str, text: str) -> None:
    make_wrong_sources(tmp_path)
    done = cli("prepare", source, "--data", "made")
    assert (done.returncode, done.stdout) == (3, "")
    assert text in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "made" / "dataset.json").exists()


def test_names_with_spaces_and_a_home(cli, tmp_path: Path) -> None:
    for name in ("cats & dogs", "[red]ünï", "漢字"):
        (tmp_path / "my pets" / name).mkdir(parents=True)
        for n in range(3):
            (tmp_path / "my pets" / name / f"a {n}.jpg").write_bytes(jpeg(n))
    done = cli("prepare", "~/my pets", "--data=~/the data", env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert f"    resnetctl train --epochs 10 --data '{tmp_path}/the data'" in done.stderr
    classes = cli("verify", "--data", "the data", "--json")
    assert json.loads(classes.stdout)["ok"] is True
    assert not (tmp_path / "~").exists()


def test_without_train_images_the_next_step_is_eval(cli, tmp_path: Path) -> None:
    (official(WNIDS).write(tmp_path / "in") / TRAIN).unlink()
    done = cli("prepare", "in", "--allow-incomplete")
    assert done.returncode == 0, done.stderr
    assert f"{TRAIN} is missing: evaluation is possible, training is not" in done.stderr
    assert "resnetctl eval CHECKPOINT" in done.stderr
    trained = cli("train", "--max-steps", "1")
    assert trained.returncode == 3
    assert "hint:" in trained.stderr


def test_a_drawn_split_stays_where_the_images_lie_in_the_data_root(cli, tmp_path: Path) -> None:
    """With a relative path, as the default ./data is one."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for n in range(10):
            (tmp_path / "data" / "train" / name / f"{n}.jpg").write_bytes(jpeg(n))
    first = cli("prepare", "--val-fraction", "0.3", "--seed", "5", "--json")
    again = cli("prepare", "--json")
    assert json.loads(again.stdout)["splits"] == json.loads(first.stdout)["splits"]
    assert json.loads(again.stdout)["splits"]["val"]["images"] == 6
    assert "replaces" not in again.stderr


def test_copying_shows_megabytes_a_second(cli, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(8):
            (tmp_path / "pets" / name / f"{n}.jpg").write_bytes(jpeg(n) + bytes(1_000_000) + b"\xff\xd9")
    done = cli("prepare", "pets", "--pack", "--shard-size", "2", env={"RESNETCTL_PROGRESS_SECONDS": "0"})
    assert re.search(r"packing \(MB\): \d+/16, [\d.]+ MB/s", done.stderr), done.stderr
    assert re.search(r"indexing train: \d+, [\d,]+/s", done.stderr)
