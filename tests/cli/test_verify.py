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
    done = cli("verify", "--json")
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
    assert document["ok"] is False
    assert len(document["bad"]) == 25
    assert document["bad"][0] == {
        "split": "train",
        "name": "cat/\\x1b[31m[red]00.JPEG",
        "container": "train/cat/\\x1b[31m[red]00.JPEG",
        "reason": "it is text, not an image",
    }
    assert {check["name"] for check in document["checks"] if not check["ok"]} == {"train images"}
