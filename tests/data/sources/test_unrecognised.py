"""What is said of a SOURCE that is none; the command line's view is in tests/cli/test_prepare.py."""

from pathlib import Path

import pytest

from resnetctl.data.sources.unrecognised import no_such_source, unrecognised_source
from tests.fixtures.imagenet_archives import jpeg


@pytest.mark.parametrize("url", ["https://x/y.tar", "s3://x/y", "hf://datasets/x"])
def test_an_address(url: str) -> None:
    assert "is a URL" in no_such_source(Path(url)).message


def test_the_data_root_is_named_as_it_was_given() -> None:
    assert unrecognised_source(Path("data"), given=False).message == "no supported data set found in ./data"


@pytest.mark.parametrize("name", ["a.tgz", "a.7z", "a.rar"])
def test_other_archives_are_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "repack it as a .tar or .zip" in str(unrecognised_source(tmp_path / name, given=True).hint)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["cat/1.jpg"], "1 folder, but it is not train/"),
        (["cat/1.txt", "dog/1.txt"], "2 folders, but neither train/ nor images in each of them"),
        (["train/1.jpg"], "train/ has no class folders"),
        (["val/cat/1.jpg"], "it has val/, but no train/"),
        (["1.jpg"], "images, but no class folders"),
    ],
)
def test_folders(tmp_path: Path, files: list[str], why: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(1))
    message = unrecognised_source(tmp_path, given=True).message
    assert message == f"no supported data set found in {tmp_path}: {why}"
