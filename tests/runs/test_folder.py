"""Run folders: never overwritten, found by name, and `latest` believed only where it names one."""

import json
import time
from pathlib import Path

import pytest

from resnetctl.errors import CheckpointError, UsageError
from resnetctl.runs.checkpoint import save_checkpoint
from resnetctl.runs.find import find_run, runs
from resnetctl.runs.folder import Run, check_name, create_run, point_latest
from tests.fixtures.checkpoints import checkpoint
from tests.process import start


@pytest.mark.parametrize("name", ["a", "0", "run-1", "A.b_c+d", "x" * 100, "latest1"])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/etc", "../x", "-x", ".hidden", "latest", "a b", "x" * 101, "a\n", "ü", "a\0", "[b]"],
)
def test_bad_names(name, tmp_path):
    with pytest.raises(UsageError) as caught:
        create_run(tmp_path, name, "small")
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(tmp_path):
    run = create_run(tmp_path / "runs", "mine", "small")
    assert run.folder == tmp_path / "runs" / "mine"
    assert run.checkpoints.is_dir()
    with pytest.raises(UsageError, match="already a run") as caught:
        create_run(tmp_path / "runs", "mine", "small")
    assert "--resume mine" in caught.value.hint
    (tmp_path / "runs" / "file").write_text("not a run")
    with pytest.raises(UsageError, match="already"):
        create_run(tmp_path / "runs", "file", "small")
    assert (tmp_path / "runs" / "file").read_text() == "not a run"


def test_names_of_the_recipe_and_the_time_are_each_new(tmp_path):
    found = [create_run(tmp_path, None, "small") for _ in range(4)]
    assert len({run.name for run in found}) == 4
    assert all(run.name.startswith(f"small-{time.strftime('%Y')}") for run in found)
    for recipe_name in ("../../evil", "..", "", "a b/c", "-x", "x" * 300):
        run = create_run(tmp_path, None, recipe_name)
        assert run.folder.parent == tmp_path
        check_name(run.name)


def make_run(root: str) -> None:
    while time.time() % 1 > 0.05:
        pass
    print(create_run(Path(root), None, "small").name)


def test_several_at_once_get_folders_of_their_own(tmp_path):
    started = [start(make_run, tmp_path / "runs") for _ in range(4)]
    results = [p.communicate() for p in started]
    assert [error for _, error in results] == [""] * 4
    assert len({name for name, _ in results}) == 4


def test_latest_is_a_link_to_a_neighbour_and_follows(tmp_path):
    for name in ("a", "b"):
        point_latest(tmp_path, create_run(tmp_path, name, "small"))
        assert str((tmp_path / "latest").readlink()) == name
        assert find_run(tmp_path, None).folder == find_run(tmp_path, "latest").folder == tmp_path / name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "latest"]
    assert [run.name for run in runs(tmp_path)] == ["b", "a"]


@pytest.mark.parametrize("target", ["../outside", "/", "gone", ".", "..", "b/checkpoints", "\x1b[31m"])
def test_latest_is_not_believed_where_it_leads_elsewhere(target, tmp_path):
    root = tmp_path / "runs"
    create_run(tmp_path, "outside", "small")
    create_run(root, "a", "small")
    time.sleep(0.02)
    create_run(root, "b", "small")
    (root / "latest").symlink_to(target)
    assert find_run(root, None).folder == root / "b"  # the one touched last


def test_a_file_called_latest_is_not_followed(tmp_path):
    create_run(tmp_path, "a", "small")
    (tmp_path / "latest").write_text("/etc")
    assert find_run(tmp_path, None).name == "a"


def test_runs_are_found_by_name_and_by_folder(tmp_path, monkeypatch):
    root = tmp_path / "runs"
    for name in ("first", "second"):
        create_run(root, name, "small")
    elsewhere = create_run(tmp_path / "other", "third", "small")
    assert find_run(root, "first").folder == root / "first"
    assert find_run(root, str(elsewhere.folder)).folder == elsewhere.folder
    monkeypatch.chdir(tmp_path)
    assert find_run(root, "other/third/").name == "third"
    assert find_run(root, "other/../other/third").name == "third"
    (root / "linked").symlink_to(elsewhere.folder)
    assert [run.name for run in runs(root)].count("linked") == 0


def test_what_is_not_there_is_named_with_a_guess(tmp_path):
    with pytest.raises(CheckpointError, match="no run in") as caught:
        find_run(tmp_path, None)
    assert "resnetctl train" in caught.value.hint
    with pytest.raises(CheckpointError, match="no run in"):
        find_run(tmp_path / "gone", None)
    create_run(tmp_path, "baseline", "small")
    with pytest.raises(CheckpointError, match="did you mean baseline") as caught:
        find_run(tmp_path, "baselin")
    assert "baseline" in caught.value.hint
    with pytest.raises(CheckpointError) as caught:
        find_run(tmp_path, "x\x1b[31m\n")
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message


def test_whether_a_run_was_only_begun(tmp_path):
    run = create_run(tmp_path, "a", "small")
    assert not run.is_untouched()
    run.recipe.write_text("")
    assert run.is_untouched()
    save_checkpoint(run.checkpoints, checkpoint(1))
    assert not run.is_untouched()


def test_the_launch_is_noted(tmp_path):
    run = create_run(tmp_path, "a", "small")
    assert run.launch() is None
    run.mark_launch("slurm 12")
    assert Run(run.folder).launch() == "slurm 12"
    run.mark_launch(None)
    run.mark_launch(None)
    assert run.launch() is None
    (run.folder / ".launch").write_bytes(b"\xff\xfe")
    assert run.launch() is None


def train(step: int) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": step / 2}


def evaluated(step: int) -> dict[str, object]:
    return {"kind": "eval", "step": step, "top1": 1.0}


def lines(run: Run) -> list[tuple[str, int]]:
    entries = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [(e["kind"], e["step"]) for e in entries]


@pytest.mark.parametrize("with_evaluation", [False, True])
def test_metrics_after_the_checkpoint_are_dropped(with_evaluation, tmp_path):
    run = create_run(tmp_path, "a", "small")
    run.trim_metrics(5, evaluated=True)  # nothing there: nothing to do
    assert not run.metrics.exists()
    for entry in (train(2), train(4), evaluated(4), train(6), evaluated(6), train(8), evaluated(8)):
        run.log(entry)
    run.sync_metrics()
    run.trim_metrics(6, evaluated=with_evaluation)
    kept = [("train", 2), ("train", 4), ("eval", 4), ("train", 6)] + [("eval", 6)] * with_evaluation
    assert lines(run) == kept
    run.trim_metrics(6, evaluated=with_evaluation)
    assert lines(run) == kept
    run.log(train(7))
    assert lines(run) == [*kept, ("train", 7)]


@pytest.mark.parametrize(
    "half",
    [b'{"kind": "train", "st', b'{"kind": "train"}', b"[1]", b"\xff\xff", b"null", b'{"step": "x"}', b"5", b"\n\n"],
)
def test_half_a_line_of_a_killed_writer_is_dropped(half, tmp_path):
    run = create_run(tmp_path, "a", "small")
    run.log(train(2))
    with run.metrics.open("ab") as file:
        file.write(half)
    run.trim_metrics(9, evaluated=True)
    run.log(train(10))
    assert lines(run) == [("train", 2), ("train", 10)]
