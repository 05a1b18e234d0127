"""ImageNet-X on ten images, worked out by hand."""

import json

import numpy as np
import pytest

from resnetctl.errors import DataError
from resnetctl.suites.factors import FACTORS, Annotations, measure_factors, read_annotations

#        image, class, factors
ROWS = [
    ("a", 1, {"pose"}),
    ("b", 1, {"pose"}),
    ("c", 2, {"pose", "pattern"}),
    ("d", 2, {"pattern"}),
    ("e", 3, {"texture"}),
    ("f", 3, set()),
    ("g", 4, {"pose"}),
    ("h", 4, {"background"}),
]
NAMES = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]  # nothing is said of i and j
OWN = np.array([1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
WRONG = "cdei"
CORRECT = np.array([name not in WRONG for name in NAMES])


def line(name, label, has, factors=FACTORS):
    return json.dumps({"file_name": name, "class": label, **{f: int(f in has) for f in factors}, "one_word": "x"})


def written(folder, rows=ROWS, factors=FACTORS, name="imagenet_x_val_top_factor.jsonl"):
    path = folder / name
    path.write_text("\n".join(line(*row, factors=factors) for row in rows) + "\n")
    return path


def test_error_ratios_by_hand(tmp_path):
    result = measure_factors(read_annotations(written(tmp_path)), NAMES, OWN, CORRECT)
    # 8 annotated images, c d e wrong: 3/8; i is wrong too, but not annotated
    assert (result.images, result.wrong, result.unannotated, result.elsewhere) == (8, 3, 2, 0)
    found = {f.name: (f.images, f.wrong, f.ratio) for f in result.factors}
    assert found == {
        "pose": (4, 1, pytest.approx((1 / 4) / (3 / 8))),
        "pattern": (2, 2, pytest.approx(1 / (3 / 8))),
        "texture": (1, 1, pytest.approx(1 / (3 / 8))),
        "background": (1, 0, 0.0),
    }
    assert [f.name for f in result.factors][-1] == "background"
    assert set(result.absent) == set(FACTORS) - set(found)


def test_the_result_is_pandas_as_in_the_package(tmp_path):
    """`error_ratio` of the package: (1 - accuracy by factor) / (1 - accuracy), over the annotated rows."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    rows = [(f"{i}", i % 7, {f for f in FACTORS if rng.uniform() < 0.2}) for i in range(400)]
    correct = rng.uniform(size=400) < 0.7
    table = pandas.read_json(written(tmp_path, rows), lines=True)
    table["right"] = correct
    accuracy = table[table["right"]][list(FACTORS)].sum() / table[list(FACTORS)].sum()
    expected = (1 - accuracy) / (1 - table["right"].mean())
    names, own = [r[0] for r in rows], np.array([r[1] for r in rows])
    result = measure_factors(read_annotations(tmp_path), names, own, correct)
    assert {f.name: f.ratio for f in result.factors} == pytest.approx(expected.to_dict())


def test_a_factor_that_the_file_lacks_is_said_and_left_out(tmp_path):
    annotations = read_annotations(written(tmp_path, factors=[f for f in FACTORS if f != "pose"]))
    assert annotations.missing == ("pose",)
    result = measure_factors(annotations, NAMES, OWN, CORRECT)
    assert "pose" in result.absent
    assert {f.name for f in result.factors} == {"pattern", "texture", "background"}


def test_images_that_are_not_there_do_not_count(tmp_path):
    annotations = read_annotations(written(tmp_path))
    keep = [0, 2, 3]
    result = measure_factors(annotations, [NAMES[i] for i in keep], OWN[keep], CORRECT[keep])
    assert (result.images, result.wrong, result.elsewhere) == (3, 2, 5)


def test_prototypes_are_left_out_as_the_package_does(tmp_path):
    (tmp_path / "prototypical_paths.csv").write_text("file_name\nd\nzz\n")
    annotations = read_annotations(written(tmp_path))
    assert annotations.prototypes == 1
    result = measure_factors(annotations, NAMES, OWN, CORRECT)
    assert (result.images, result.wrong, result.unannotated) == (7, 2, 3)


def test_without_their_list_nobody_knows_the_prototypes(tmp_path):
    assert read_annotations(written(tmp_path)).prototypes is None


def test_a_model_without_errors_has_no_ratios():
    annotations = Annotations({"a": 1, "b": 1}, {"a": frozenset({"pose"}), "b": frozenset()}, (), None)
    result = measure_factors(annotations, ["a", "b"], np.array([1, 1]), np.array([True, True]))
    assert [(f.name, f.ratio, f.ratio_interval) for f in result.factors] == [("pose", None, None)]
    assert result.wrong == 0


def test_the_interval_of_a_ratio_covers_what_chance_does():
    """95 % of the intervals hold the true ratio, to within the error of 2,000 trials."""
    rng = np.random.default_rng(1)
    names = [str(i) for i in range(3000)]
    inside = np.arange(3000) < 700
    has = {n: frozenset({"pose"}) if i < 700 else frozenset() for i, n in enumerate(names)}
    annotations = Annotations(dict.fromkeys(names, 0), has, (), None)
    true = 0.3 / (700 / 3000 * 0.3 + 2300 / 3000 * 0.2)
    held = 0
    for _ in range(300):
        correct = rng.uniform(size=3000) >= np.where(inside, 0.3, 0.2)
        (factor,) = measure_factors(annotations, names, np.zeros(3000, int), correct).factors
        low, high = factor.ratio_interval
        assert low < factor.ratio < high
        held += low <= true <= high
    assert 0.91 < held / 300 < 0.99


def test_the_file_for_train_is_recognised(tmp_path):
    with pytest.raises(DataError, match="annotates none of the val images") as caught:
        measure_factors(read_annotations(written(tmp_path, [("n01440764_1.JPEG", 0, set())])), NAMES, OWN, CORRECT)
    assert "imagenet_x_val_top_factor.jsonl" in caught.value.hint


def test_labels_in_another_order_are_recognised(tmp_path):
    with pytest.raises(DataError, match="another class to 8 of 8"):
        measure_factors(read_annotations(written(tmp_path)), NAMES, OWN + 1, CORRECT)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "file_name,class\n",
        '{"file_name": "a"}\n',
        '{"file_name": "a", "class": "dog"}\n',
        '{"file_name": "a", "class": 1, "pose": 3}\n',
        "[1]\n",
        line("a", 1, set()) + "\n" + line("a", 1, set()),
        "[" * 100_000,
    ],
)
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(DataError):
        read_annotations(tmp_path / "x.jsonl")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot read") as caught:
        read_annotations(tmp_path)
    assert "imagenet-x" in caught.value.hint
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not text"):
        read_annotations(tmp_path / "x.jsonl")
