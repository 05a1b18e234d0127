"""`resnetctl predict` as users run it, on every kind of file that they may have."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.data.images.test_decode import huge_png
from tests.fixtures.models import write_run
from tests.fixtures.photos import tile

CLASSES = ("[red]fox", "cat", "dog", "eel", "gnu", "yak")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "small", CLASSES)
    return root


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pics").mkdir()
    for n in range(3):
        tile(n, 90, 70).save(tmp_path / "pics" / f"{n}.jpg")
    return tmp_path / "pics"


@pytest.fixture
def predict(cli, runs):
    def run(*args, **options):
        return cli("predict", *args, "--runs", runs, "--device", "cpu", **options)

    return run


def test_a_table_of_the_five_most_probable(predict, pictures):
    done = predict(pictures / "0.jpg")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "small, step 1"
    assert lines[1].split() == ["image", "class", "probability"]
    assert len(lines) == 2 + 5
    assert lines[2].split()[0] == str(pictures / "0.jpg")
    shares = [float(line.split()[-2]) for line in lines[2:]]
    assert shares == sorted(shares, reverse=True)


def test_json_and_csv_say_the_same(predict, pictures):
    document = json.loads(predict(pictures, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(predict(pictures, "--csv").stdout)))
    assert (document["kind"], document["version"], document["model"]) == ("predict", 1, "small")
    assert [i["file"] for i in document["predictions"]] == [str(pictures / f"{n}.jpg") for n in range(3)]
    for image, row in zip(document["predictions"], rows, strict=True):
        assert row["file"] == image["file"]
        assert row["error"] == ""
        for n, guess in enumerate(image["top"], 1):
            assert (row[f"class{n}"], row[f"name{n}"]) == (guess["class"], guess["name"])
            assert float(row[f"probability{n}"]) == pytest.approx(guess["probability"], abs=1e-6)


def test_damaged_pictures_are_named_and_the_rest_done(predict, pictures):
    (pictures / "empty.png").touch()
    whole = (pictures / "0.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "page.jpg").write_bytes(b"<html>404</html>")
    (pictures / "bomb.png").write_bytes(huge_png(60_000))
    done = predict(pictures, "--json")
    assert done.returncode == 1
    for name in ("empty.png", "cut.jpg", "page.jpg", "bomb.png"):
        assert f"warning: {pictures / name}: " in done.stderr
    images = json.loads(done.stdout)["predictions"]
    assert [i["problem"] is None for i in images] == [True, True, True, False, False, False, False]
    assert all(bool(i["top"]) == (i["problem"] is None) for i in images)


def test_every_kind_of_picture_in_one_go(predict, tmp_path):
    photo = tile(1, 90, 70)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) << 8).save(tmp_path / "deep.png")
    photo.save(tmp_path / "moving.webp", save_all=True, append_images=[photo], duration=100)
    photo.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (9000, 6000), "red").save(tmp_path / "large.jpg")
    done = predict(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)["predictions"]
    assert len(images) == 5
    assert all(len(i["top"]) == 5 for i in images)


def test_stdin_names_files(predict, pictures):
    names = f"{pictures / '1.jpg'}\n{pictures / 'gone.jpg'}\n"
    done = predict("-", "--json", input=names)
    assert done.returncode == 1
    assert [i["file"] for i in json.loads(done.stdout)["predictions"]] == names.split()
    assert "gone.jpg: cannot be read: No such file" in done.stderr


def test_stdin_is_a_picture(runs, pictures):
    command = [sys.executable, "-m", "resnetctl", "predict", "-", pictures / "1.jpg", "--runs", runs, "--json"]
    done = subprocess.run(command, input=(pictures / "1.jpg").read_bytes(), capture_output=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["predictions"]
    assert (first["file"], second["file"]) == ("-", str(pictures / "1.jpg"))
    assert first["top"] == second["top"]


def test_a_sheet_shows_the_pictures(predict, pictures):
    (pictures / "bad.jpg").write_bytes(b"x")
    sheet = pictures.parent / "sheet.png"
    done = predict(pictures, "--sheet", sheet)
    assert done.returncode == 1
    with Image.open(sheet) as image:
        assert image.size == (4 * 238 + 14, 14 + 224 + 6 + 6 * 19 + 14)


def test_a_file_is_never_replaced_by_a_sheet(predict, pictures):
    (pictures.parent / "mine.png").write_text("mine")
    done = predict(pictures, "--sheet", pictures.parent / "mine.png")
    assert done.returncode == 2
    assert "already a file" in done.stderr
    assert (pictures.parent / "mine.png").read_text() == "mine"


def test_names_are_no_markup(predict, pictures):
    (pictures / "0.jpg").rename(pictures / "[bold]x.jpg")
    done = predict(pictures / "[bold]x.jpg", pictures / "1.jpg")
    assert "[bold]x.jpg" in done.stdout
    assert "[red]fox" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (["https://example.org/a.jpg"], 2, "is a URL", "curl"),
        (["pics.zip"], 2, "is an archive", "unpack"),
        (["gone.jpg"], 2, "no such file or folder: gone.jpg", ""),
        (["."], 3, "no images found in .", ".jpg"),
        (["a.jpg", "--csv", "--json"], 2, "--csv and --json", "choose one"),
        (["a.jpg", "--run", "x", "--weights", "y"], 2, "cannot be combined", "choose one"),
        (["a.jpg", "--run", "nothing"], 1, "no run or checkpoint nothing", "runs"),
        (["a.jpg", "--sheet", "sheet.txt"], 2, "not the name of an image file", "FILE.png"),
        (["-", "-"], 2, "stdin can be read only once", "one -"),
        (["-"], 2, "stdin is empty", "predict -"),
        ([], 2, "missing argument", "--help"),
    ],
)
def test_what_cannot_be_is_told(args, code, message, hint, predict, tmp_path):
    if args and args[0] == "a.jpg":
        tile(1, 50, 50).save(tmp_path / "a.jpg")
    with zipfile.ZipFile(tmp_path / "pics.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    if args == ["."]:
        (tmp_path / "pics.zip").unlink()
    done = predict(*args)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert f"hint: {hint}" in done.stderr or hint in done.stderr.partition("hint:")[2]
    assert "--json" in args or done.stdout == ""
