"""Each suite measured with a model whose answers are known: pictures say a number, and it predicts that number."""

import json

import pytest

from resnetctl.data import imagenet
from resnetctl.data.dataset import Dataset, encode_dataset
from resnetctl.data.index import Index, IndexInfo, Record, index_path
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.engine.measure import Images, measure
from resnetctl.errors import DataError
from resnetctl.suites import parse_suite
from resnetctl.suites.factors import FACTORS
from resnetctl.suites.outcome import compared, trouble
from tests.fixtures.sayings import reader, saying

WNIDS = imagenet.wnids()


def write_val(root, pictures, classes=WNIDS, quarantined=()):
    """A data root whose val has `pictures`: (label, number in the file's name, what the picture says)."""
    builder = IndexBuilder()
    for label, number, says in pictures:
        name = f"{classes[label]}/ILSVRC2012_val_{number:08d}.JPEG"
        (root / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "val" / name).write_bytes(saying(says) if says is not None else b"no picture")
        builder.add(Record(name, f"val/{name}", 0, (root / "val" / name).stat().st_size, label))
    info = IndexInfo(
        split="val", source="folder", root=".", classes=classes, class_names=classes, quarantined=quarantined
    )
    info = builder.write(index_path(root, "val"), info)
    dataset = Dataset(
        root=root,
        name="test",
        source="folder",
        recipe=None,
        classes=len(classes),
        train_images=0,
        val_images=len(builder),
        created_by="resnetctl test",
        incomplete=None,
        fingerprints={"val": info.fingerprint},
    )
    (root / "dataset.json").write_bytes(encode_dataset(dataset))
    return root


def write_folders(root, pictures):
    """Class folders with pictures: (folder, what the picture says)."""
    for n, (folder, says) in enumerate(pictures):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{n:04d}.png").write_bytes(saying(says))
    return root


def run(root, *suites, model=None, told=None, **images):
    scratch = root / f"scratch{len(list(root.glob('scratch*')))}"
    scratch.mkdir()
    chosen = [parse_suite(s) for s in suites]
    notice = [].append if told is None else told.append
    return list(measure(model or reader(WNIDS), chosen, Images(root, scratch, **images), workers=0, notice=notice))


def counts(outcome):
    return outcome.suite, outcome.correct1, outcome.correct5, outcome.images


VAL = [
    # label, number, says
    (65, 1, 65),  # right
    (65, 9, 66),  # among the five
    (970, 2, 970),  # right
    (970, 3, 500),  # wrong
    (230, 4, None),  # cannot be read: wrong
]


def test_the_val_images(tmp_path):
    (val,) = run(write_val(tmp_path, VAL), "val")
    assert counts(val) == ("val", 2, 3, 5)
    assert val.unreadable == 1
    assert val.guesses.truth.tolist() == [65, 65, 230, 970, 970]
    assert val.guesses.labels[:, 0].tolist() == [65, 66, -1, 970, 500]
    assert (val.model, val.published) == ("reader", None)


def test_real_labels_on_the_val_images(tmp_path):
    #      image 1   2   3           4     5…8          9
    lists = [[65], [], [500, 970], [230], [], [], [], [], [66, 65]]
    (tmp_path / "real.json").write_text(json.dumps(lists))
    real, val = run(write_val(tmp_path, VAL), f"real={tmp_path / 'real.json'}", "val")
    # 1 is right, 9 says 66 which ReaL allows, 3 says 500 likewise, 4 cannot be read, 2 has no label
    assert counts(real) == ("real", 3, 3, 4)
    assert counts(val) == ("val", 2, 3, 5)
    assert real.guesses is None
    assert real.notes == ("1 image without a label left out",)


def test_factors_on_the_val_images(tmp_path):
    rows = [(1, 65, {"pose"}), (9, 65, {"pose"}), (3, 970, {"texture"})]
    lines = [
        json.dumps({"file_name": f"ILSVRC2012_val_{n:08d}.JPEG", "class": c, **{f: int(f in has) for f in FACTORS}})
        for n, c, has in rows
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    (x,) = run(write_val(tmp_path, VAL), f"x={tmp_path / 'x.jsonl'}")
    assert counts(x) == ("x", 1, None, 3)
    # 2 of 3 are wrong; of those with pose 1 of 2, with texture 1 of 1
    assert {f.name: f.ratio for f in x.factors.factors} == pytest.approx({"pose": 0.75, "texture": 1.5})
    assert x.notes[0] == "2 val images without annotations left out"
    assert any("prototypical_paths.csv" in note for note in x.caveats)


def test_imagenetv2_counts_by_number_and_not_by_string(tmp_path):
    """Every picture says its folder's number: all are right, where sorted strings would make 4 of 7 wrong."""
    names = ["0", "1", "2", "3", "10", "11", "100"]
    folder = write_folders(tmp_path / "v2", [(name, int(name)) for name in names])
    (v2,) = run(tmp_path, f"v2={folder}")
    assert counts(v2) == ("v2", 7, 7, 7)
    assert [v2.guesses.truth[i] for i in range(7)] == [0, 1, 2, 3, 10, 11, 100]
    assert sum(sorted(names).index(name) == int(name) for name in names) == 2


def test_in_imagenet_a_only_200_outputs_compete(tmp_path):
    """The picture of class 7 says 8, which is no class of the 200: the nearest one that is wins."""
    members = [*range(0, 1000, 5)]
    pictures = [(WNIDS[m], m) for m in members]
    pictures[0] = (WNIDS[0], 2)  # all 1,000: 2, wrong; of the 200: 0, right
    pictures[1] = (WNIDS[5], 8)  # of the 200: 10, wrong; among the five
    pictures[2] = (WNIDS[10], 500)  # wrong in any case
    folder = write_folders(tmp_path / "a", pictures)
    (a,) = run(tmp_path, f"a={folder}")
    assert counts(a) == ("a", 198, 199, 200)
    assert len(a.index.info.classes) == 200
    assert a.guesses.labels[:3, 0].tolist() == [0, 2, 100]
    assert any("200 images in 200 folders" in note for note in a.caveats)


def test_imagenet_r_is_measured_in_the_same_way(tmp_path):
    folder = write_folders(tmp_path / "r", [(WNIDS[10], 14), (WNIDS[20], 16), (WNIDS[30], 30)])
    (r,) = run(tmp_path, f"r={folder}")
    # 14 is nearest to 10, 16 to 20, of the three that compete; the loss is that of three outputs
    assert counts(r) == ("r", 3, 3, 3)
    # outputs -16, -36, -256; -36, -16, -196; -400, -100, 0: the softmax of the right one is 1 to nine digits
    assert r.loss == pytest.approx(0, abs=1e-6)


def test_the_suites_stand_in_the_order_asked_for(tmp_path):
    folder = write_folders(tmp_path / "v2", [("0", 0)])
    write_val(tmp_path, VAL)
    outcomes = run(tmp_path, f"v2={folder}", "val", f"a={write_folders(tmp_path / 'a', [(WNIDS[1], 1)])}")
    assert [o.suite for o in outcomes] == ["v2", "val", "a"]


def test_suites_with_images_need_no_data_set(tmp_path):
    folder = write_folders(tmp_path / "v2", [("0", 0)])
    assert counts(run(tmp_path, f"v2={folder}")[0]) == ("v2", 1, 1, 1)
    with pytest.raises(DataError, match="no data set is prepared"):
        run(tmp_path, "val")


def test_some_of_the_models_classes_compete_among_themselves(tmp_path):
    """Imagenette and the like: ten of the wnids, labelled 0 to 9."""
    told = []
    root = write_val(tmp_path, [(0, 1, 301), (1, 2, 280), (1, 3, 390)], classes=(WNIDS[300], WNIDS[400]))
    (val,) = run(root, "val", told=told)
    # 301 and 280 are nearer to 300, 390 to 400
    assert val.guesses.labels[:, 0].tolist() == [0, 0, 1]
    assert counts(val) == ("val", 2, 3, 3)
    assert told == ["reader knows 1,000 classes; the data set has 2 of them: only their outputs compete"]


def test_real_labels_for_a_model_of_some_classes(tmp_path):
    root = write_val(tmp_path, [(0, 1, 300), (1, 2, 300)], classes=(WNIDS[300], WNIDS[400]))
    (tmp_path / "real.json").write_text(json.dumps([[300], [300, 400]]))
    (real,) = run(root, f"real={tmp_path / 'real.json'}")
    assert counts(real)[1:] == (2, 2, 2)


def test_classes_that_the_model_does_not_know_are_refused(tmp_path):
    root = write_val(tmp_path, [(0, 1, 0), (1, 2, 1)], classes=("cat", "dog"))
    with pytest.raises(DataError, match=r"trained on 3 classes, but this data set has 2 \(1 that .* such as dog\)"):
        run(root, "val", model=reader(("ape", "bee", "cat")))
    with pytest.raises(DataError, match="another order"):
        run(root, "val", model=reader(("dog", "cat")))


def test_other_val_images_than_in_training_are_told(tmp_path):
    told = []
    root = write_val(tmp_path, VAL)
    run(root, "val", model=reader(WNIDS, val_fingerprint="0" * 64), told=told)
    assert told == ["these are not the val images that reader was evaluated on in training"]
    run(root, "val", model=reader(WNIDS, val_fingerprint=Index(index_path(root, "val")).info.fingerprint), told=told)
    assert len(told) == 1


def test_a_quarantine_is_told_first(tmp_path):
    root = write_val(tmp_path, VAL, quarantined=(2,))
    with pytest.raises(DataError, match="1 val image in quarantine") as caught:
        run(root, "val")
    assert "--skip-quarantined" in caught.value.hint
    (val,) = run(root, "val", skip_quarantined=True)
    assert counts(val) == ("val", 2, 3, 4)
    assert val.caveats == ("1 val image in quarantine left out",)


def test_what_is_published_stands_beside_imagenets_val_images_alone(tmp_path, monkeypatch):
    root, model = write_val(tmp_path, VAL), reader(WNIDS, published=(80.858, 95.434))
    assert run(root, "val", model=model)[0].published is None
    monkeypatch.setattr(imagenet, "VAL_IMAGES", 5)
    assert run(root, "val", model=model)[0].published == (80.858, 95.434)


def test_permuted_labels_are_recognised(tmp_path):
    classes = tuple(f"c{i}" for i in range(9))
    pictures = [(label, 10 * label + i, (label + 4) % 9) for label in range(9) for i in range(10)]
    (val,) = run(write_val(tmp_path, pictures, classes=classes), "val", model=reader(classes))
    assert val.correct1 == 0
    assert "would be 100.0 % if the classes were in another order" in trouble(val)


def test_the_same_images_are_compared_by_mcnemar(tmp_path):
    root = write_val(tmp_path, VAL)
    ours, theirs = run(root, "val")[0], run(root, "val", model=reader(WNIDS[:1000]))[0]
    found = compared(ours, theirs)
    assert (found.only_first, found.only_second, found.p_value) == (0, 0, 1.0)
    v2 = run(root, f"v2={write_folders(tmp_path / 'v2', [('0', 0)])}")[0]
    assert compared(ours, v2) is None
