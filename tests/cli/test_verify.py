import json
from pathlib import Path

from tests.fixtures.imagenet_archives import jpeg


def test_the_sample_is_in_order(cli) -> None:
    cli("prepare", "--source", "sample")
    done = cli("verify")
    assert done.returncode == 0
    assert "BAD" not in done.stdout
    assert "2,000 decode" in done.stdout
    assert "fashion-mnist-sample is in order" in done.stderr


def test_nothing_prepared(cli) -> None:
    done = cli("verify")
    assert (done.returncode, done.stdout) == (3, "")
    assert "resnetctl prepare" in done.stderr


def bad_tree(root: Path, count: int) -> None:
    for split in ("train", "val"):
        (root / split / "cat").mkdir(parents=True)
        (root / split / "cat" / "good.jpg").write_bytes(jpeg(1))
    for n in range(count):
        (root / "train" / "cat" / f"\x1b[31m[red]{n:02d}.JPEG").write_bytes(b"this is text")


def test_bad_files_are_listed_with_the_reason_and_exit_code_3(cli, tmp_path: Path) -> None:
    bad_tree(tmp_path / "data", 25)
    assert cli("prepare").returncode == 0
    done = cli("verify", "--workers", "1")
    assert done.returncode == 3
    assert "\x1b" not in done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("train  cat/\\x1b[31m[red]")]
    assert len(shown) == 20
    assert all(line.endswith("it is text, not an image") for line in shown)
    assert "5 more bad images: resnetctl verify --json" in done.stderr
    assert "BAD" in done.stdout


def test_json_lists_all_of_them(cli, tmp_path: Path) -> None:
    bad_tree(tmp_path / "data", 25)
    cli("prepare")
    done = cli("verify", "--json", "--workers", "0")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert list(document)[:3] == ["kind", "version", "data"]
    assert (document["kind"], document["version"], document["data"]) == ("verify", 1, "data")
    assert document["ok"] is False
    assert len(document["bad"]) == 25
    assert document["bad"][0] == {
        "split": "train",
        "name": "cat/\\x1b[31m[red]00.JPEG",
        "container": "train/cat/\\x1b[31m[red]00.JPEG",
        "reason": "it is text, not an image",
    }
    assert {check["name"] for check in document["checks"] if not check["ok"]} == {"train images"}


def test_train_and_eval_with_a_quarantine(cli, tmp_path: Path) -> None:
    for split, count in (("train", 12), ("val", 4)):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for n in range(count):
                (tmp_path / "data" / split / name / f"{n}.jpg").write_bytes(jpeg(100 * k + n, 40, 40))
    (tmp_path / "data/train/cat/3.jpg").write_bytes(b"<html>")
    (tmp_path / "data/val/dog/1.jpg").write_bytes(b"")
    assert cli("prepare").returncode == 0
    common = ("--workers", "0", "--device", "cpu")
    begun = ("--max-steps", "1", "--batch-size", "8", "--arch", "resnet18", "--name", "before", *common)
    assert cli("train", *begun).returncode == 0
    assert cli("verify", "--workers", "0").returncode == 3
    resumed = cli("train", "--resume", "before", "--max-steps", "2", *common)
    assert resumed.returncode == 3
    assert "verify has quarantined 1 train image since" in resumed.stderr
    assert "prepare --release-quarantined" in resumed.stderr
    assert cli("prepare", "--release-quarantined").returncode == 0
    resumed = cli("train", "--resume", "before", "--max-steps", "2", *common)
    assert resumed.returncode == 0, resumed.stderr
    assert cli("verify", "--workers", "0").returncode == 3
    assert len((tmp_path / "data" / "quarantine.jsonl").read_text().splitlines()) == 2
    trained = cli("train", "--max-steps", "2", "--batch-size", "8", "--arch", "resnet18", *common)
    assert trained.returncode == 0, trained.stderr
    assert "could not be read" not in trained.stderr
    assert "warning: 1 train image in quarantine, left out: cat/3.jpg" in trained.stderr
    refused = cli("eval", *common)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "1 val image in quarantine" in refused.stderr
    done = cli("eval", "--skip-quarantined", "--json", *common)
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(done.stdout)["results"]
    assert (document["images"], document["quarantined"], document["unreadable"]) == (7, 1, 0)


def test_a_replaced_image_is_accepted(cli, tmp_path: Path) -> None:
    """Another sound image of the same size stays in quarantine until it is said that it was meant."""
    for split in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for n in range(3):
                (tmp_path / "data" / split / name / f"{n}.ppm").write_bytes(ppm(10 * k + n))
    assert cli("prepare").returncode == 0
    assert cli("verify", "--workers", "0").returncode == 0
    replaced = tmp_path / "data/train/cat/1.ppm"
    replaced.write_bytes(ppm(77))
    for again in range(2):
        found = cli("verify", "--workers", "0")
        assert found.returncode == 3, again
        assert "1 image of train changed since the CRC was recorded, but sound" in found.stdout
        assert "resnetctl verify --accept takes the new bytes" in found.stdout
        released = cli("prepare", "--release-quarantined")
        assert released.returncode == 0
        assert "1 image of train released from quarantine" in released.stderr
    accepted = cli("verify", "--workers", "0", "--accept")
    assert accepted.returncode == 0, accepted.stdout
    assert "1 changed image of train accepted: the CRC of the present bytes is recorded" in accepted.stdout
    assert cli("verify", "--workers", "0").returncode == 0
    replaced.write_bytes(b"x" * replaced.stat().st_size)  # what is broken is not accepted
    broken = cli("verify", "--workers", "0", "--accept")
    assert broken.returncode == 3
    assert "--accept takes the new bytes" not in broken.stdout


def ppm(value: int) -> bytes:
    return b"P6 8 8 255\n" + bytes([value]) * 192


def test_accepting_needs_a_whole_look(cli) -> None:
    done = cli("verify", "--accept", "--sample", "3")
    assert done.returncode == 2
    assert "hint:" in done.stderr


def test_an_override_belongs_to_archives(cli) -> None:
    done = cli("verify", "--accept-archives")
    assert done.returncode == 2
    assert "--archives" in done.stderr


def test_a_quick_look(cli, tmp_path: Path) -> None:
    cli("prepare", "--source", "sample")
    done = cli("verify", "--sample", "20", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == 40


def leaking(root: Path) -> None:
    for split, seeds in (("train", (1, 2, 3)), ("val", (1, 4))):
        (root / split / "[b]cat").mkdir(parents=True)
        for seed in seeds:
            (root / split / "[b]cat" / f"{seed}.jpg").write_bytes(jpeg(seed))


def test_an_image_of_both_splits_is_named_and_no_error(cli, tmp_path: Path) -> None:
    leaking(tmp_path / "data")
    cli("prepare")
    done = cli("verify", "--workers", "0")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    at = lines.index("split  image that is there twice")
    assert [line.split("  ", 2) for line in lines[at + 1 : at + 3]] == [
        ["train", "[b]cat/1.jpg", " " * 13 + "same bytes, in train and val"],
        ["val", "", "[b]cat/1.jpg"],
    ]
    assert "warning: 1 image in both train and val: a model learns them by heart" in done.stderr


def test_json_lists_what_is_there_twice(cli, tmp_path: Path) -> None:
    leaking(tmp_path / "data")
    cli("prepare")
    document = json.loads(cli("verify", "--near", "--json", "--workers", "0").stdout)
    assert document["ok"] is True
    assert document["duplicates"] == [
        {
            "same_bytes": True,
            "in_both_splits": True,
            "in_two_classes": False,
            "images": [{"split": "train", "name": "[b]cat/1.jpg"}, {"split": "val", "name": "[b]cat/1.jpg"}],
        }
    ]


def test_near_needs_all_images(cli) -> None:
    done = cli("verify", "--near", "--sample", "5")
    assert done.returncode == 2
    assert "hint: leave out one of the two" in done.stderr
