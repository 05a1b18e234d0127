import io
import os

import pytest

from resnetctl.data.image_files import find_images, read_names
from resnetctl.errors import DataError, UsageError
from tests.fixtures.imagenet_archives import jpeg


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "sub/c.jpeg", "sub/deep/d.webp", ".hidden.jpg", ".cache/e.jpg", "notes.txt"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "single").write_bytes(b"x")
    return tmp_path


def test_a_folder_is_its_images_in_order(folder):
    expected = ["pics/a.PNG", "pics/b.jpg", "pics/sub/c.jpeg", "pics/sub/deep/d.webp"]
    assert find_images(["pics"]) == expected
    assert find_images([str(folder / "pics")]) == [str(folder / p) for p in expected]


def test_a_file_is_taken_whatever_its_name(folder):
    assert find_images(["single", "pics/sub", "./pics/notes.txt"]) == [
        "single",
        "pics/sub/c.jpeg",
        "pics/sub/deep/d.webp",
        "./pics/notes.txt",
    ]


def test_a_folder_without_images_is_told(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no images found in empty") as caught:
        find_images(["empty"])
    assert ".jpg" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["http://a.b/c.jpg", "HTTPS://a.b/c.jpg", "s3://bucket/key.jpg", "file:///c.jpg", "hf://a/b.png"]
)
def test_a_url_is_refused_with_the_way(name):
    with pytest.raises(UsageError, match="is a URL") as caught:
        find_images([name])
    assert "curl" in caught.value.hint


@pytest.mark.parametrize("name", ["a.zip", "b.tar", "c.tar.gz", "d.TGZ", "e.parquet", "gone.7z"])
def test_an_archive_is_refused_with_the_way(name, folder):
    if not name.startswith("gone"):
        (folder / name).write_bytes(b"PK")
    with pytest.raises(UsageError, match="is an archive") as caught:
        find_images([name])
    assert "unpack" in caught.value.hint


def test_a_folder_may_be_called_like_an_archive(folder):
    (folder / "pics").rename(folder / "pics.zip")
    assert len(find_images(["pics.zip"])) == 4


def test_what_is_not_there_is_refused_unless_it_comes_from_a_list(folder):
    with pytest.raises(UsageError, match=r"no such file or folder: gone\.jpg"):
        find_images(["single", "gone.jpg"])
    assert find_images(["single", "gone.jpg"], must_exist=False) == ["single", "gone.jpg"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"new\nline.jpg\0b.jpg\0", ["new\nline.jpg", "b.jpg"]),
        ("größe.jpg\n犬.jpg".encode(), ["größe.jpg", "犬.jpg"]),
        (b"latin\xe9.jpg\n", [os.fsdecode(b"latin\xe9.jpg")]),
    ],
)
def test_text_on_stdin_is_names(data, names):
    assert read_names(io.BytesIO(data)) == names


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_an_image_on_stdin_is_an_image(format):
    data = jpeg(1, 300, 200, format=format)
    assert read_names(io.BytesIO(data)) == data


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_nothing_on_stdin_is_told(data):
    with pytest.raises(UsageError, match="stdin is empty"):
        read_names(io.BytesIO(data))
