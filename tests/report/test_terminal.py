"""Curves in plain characters."""

from resnetctl.report.terminal import plot


def test_a_curve_stands_where_its_points_are():
    drawn = plot("loss", [("*", "run", [(0.0, 3.0), (1.0, 2.0), (2.0, 1.0)])], width=27, height=3, x_name="epochs")
    assert drawn.splitlines() == [
        "loss   * run",
        "       3 |*",
        "       2 |        *",
        "       1 |                *",
        "         +-----------------",
        "          0        2 epochs",
    ]


def test_it_needs_nothing_but_ascii_and_keeps_to_its_width():
    curves = [("o", "val", [(x / 7, 1000.0 * x) for x in range(500)]), (".", "training", [(0.0, -5.0)])]
    drawn = plot("loss", curves, width=80, height=10, x_name="epochs")
    assert drawn.isascii()
    assert max(map(len, drawn.splitlines())) == 80


def test_the_later_curve_is_on_top():
    drawn = plot("", [("a", "", [(0, 0), (1, 1)]), ("b", "", [(0, 0)])], width=30, height=4, x_name="")
    assert drawn.splitlines()[4].endswith("|b")


def test_a_single_point_and_a_level_line_are_drawn():
    assert "|" + " " * 10 + "*" in plot("", [("*", "", [(1.0, 1.0)])], width=30, height=3, x_name="epochs")
    level = plot("", [("*", "", [(0.0, 2.0), (1.0, 2.0)])], width=30, height=3, x_name="epochs")
    assert "*" + " " * 18 + "*" in level


def test_numbers_that_are_not_finite_are_left_out():
    nan, inf = float("nan"), float("inf")
    assert plot("loss", [("*", "", [(1.0, nan), (nan, 1.0), (2.0, inf)])], width=30, height=3, x_name="epochs") == (
        "loss: nothing measured yet"
    )


def test_a_curve_without_points_is_not_named():
    assert "val" not in plot("loss", [("*", "run", [(0, 1)]), ("o", "val", [])], width=30, height=3, x_name="")
