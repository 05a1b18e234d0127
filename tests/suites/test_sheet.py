import numpy as np
import pytest
from PIL import Image

from resnetctl.errors import UsageError
from resnetctl.suites.sheet import MOST, Line, Tile, check_sheet, draw_sheet, write_sheet

CAT = Line("cat 90.0 %", 0.9)


def tile(colour=(200, 30, 30), height=60, width=90, heading="a.jpg", lines=(CAT,)):
    return Tile(np.full((height, width, 3), colour, np.uint8), heading, lines)


def share_of(image, colour):
    return (np.abs(np.asarray(image).astype(int) - colour).max(2) <= 3).mean()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 5, 1), (6, 5, 2), (11, 5, 3)])
def test_image_files_stand_in_rows_of_five(count, columns, rows):
    one, many = draw_sheet([tile()]), draw_sheet([tile()] * count)
    assert many.width == (one.width - 14) * columns + 14
    assert many.height == (one.height - 14) * rows + 14


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (2000, 3), (1, 1), (500, 500)])
def test_a_picture_keeps_its_shape(height, width):
    sheet = draw_sheet([tile(height=height, width=width, lines=())])
    red = np.abs(np.asarray(sheet).astype(int) - (200, 30, 30)).max(2) <= 3
    rows, columns = red.any(1).sum(), red.any(0).sum()
    assert max(rows, columns) == 224
    assert rows / columns == pytest.approx(height / width, rel=0.02) or min(rows, columns) == 1


def test_the_bar_is_as_long_as_the_share():
    lengths = []
    for share in (0.0, 0.25, 1.0):
        sheet = np.asarray(draw_sheet([tile(lines=(Line("", share, "good"),))])).astype(int)
        lengths.append((np.abs(sheet - (0xCF, 0xE8, 0xCF)).max(2) <= 3).any(0).sum())
    assert lengths == [0, 56, 224]


def test_good_and_bad_are_told_apart():
    sheets = [draw_sheet([tile(lines=(Line("x", 1.0, mood),))]) for mood in ("", "good", "bad")]
    assert len({s.tobytes() for s in sheets}) == 3


def test_a_long_text_ends_inside_its_tile():
    short = draw_sheet([tile(heading="a" * 20)])
    long = draw_sheet([tile(heading="a" * 500, lines=(Line("b" * 500, 1.0),))])
    assert long.size == short.size
    assert np.asarray(long)[:, -14:].min() == 255


@pytest.mark.parametrize("text", ["犬 \u202e", "\x1b[31mred", "\udcff", "é ü ß", ""])
def test_any_text_is_drawn(text):
    draw_sheet([tile(heading=text, lines=(Line(text, 0.5),))])


def test_a_picture_that_cannot_be_read_has_its_place():
    sheet = draw_sheet([Tile(None, "gone.jpg", ()), tile()])
    assert share_of(sheet, (200, 30, 30)) > 0.2
    assert np.asarray(sheet)[14 + 10, 14 + 10].tolist() == [0xE9] * 3


@pytest.mark.parametrize("name", ["s.png", "s.jpg", "s.WEBP"])
def test_a_sheet_is_written_whole(name, tmp_path):
    write_sheet(tmp_path / name, [tile()] * 3)
    with Image.open(tmp_path / name) as image:
        image.load()
        assert image.size == draw_sheet([tile()] * 3).size
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "s.png").write_text("mine")
    with pytest.raises(UsageError, match="already a file"):
        write_sheet(tmp_path / "s.png", [tile()])
    assert (tmp_path / "s.png").read_text() == "mine"


@pytest.mark.parametrize("path", ["s.txt", "s", "nowhere/s.png"])
def test_what_cannot_be_written_is_told_before(path, tmp_path):
    with pytest.raises(UsageError) as caught:
        check_sheet(tmp_path / path)
    assert caught.value.hint


def test_the_largest_sheet():
    assert draw_sheet([tile(height=2, width=2)] * MOST).height < 16_000  # what JPEG and WebP can hold
