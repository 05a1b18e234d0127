"""Taking up a run's checkpoints: the one to go on from, and a new run from another's."""

import json

import pytest

from resnetctl.errors import CheckpointError, UsageError
from resnetctl.recipe import load_recipe
from resnetctl.runs.checkpoint import Checkpoint, save_checkpoint
from resnetctl.runs.commits import commits
from resnetctl.runs.folder import Run, create_run
from resnetctl.runs.resume import branch, check_newest, load_start
from tests.fixtures.checkpoints import checkpoint


@pytest.fixture
def run(tmp_path) -> Run:
    """With checkpoints after 1, 2 and 3 steps."""
    found = create_run(tmp_path / "runs", "first", "small")
    for step in (1, 2, 3):
        save_checkpoint(found.checkpoints, checkpoint(step))
    return found


def flip(run: Run, step: int) -> None:
    """Change a byte of a checkpoint's tensors."""
    path = run.checkpoints / f"step-{step:08d}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def start(run: Run, path=None) -> tuple[Checkpoint, list[str]]:
    warnings: list[str] = []
    return load_start(run, path, warnings.append), warnings


def names(run: Run) -> list[str]:
    return sorted(p.name for p in run.checkpoints.iterdir())


def test_the_newest_is_gone_on_from_and_nothing_is_said(run):
    before = names(run)
    found, warnings = start(run)
    assert found.metadata.step == 3
    assert warnings == []
    assert names(run) == before


def test_a_file_that_is_named_is_taken(run):
    found, warnings = start(run, run.checkpoints / "step-00000001.safetensors")
    assert (found.metadata.step, warnings) == (1, [])


def test_damaged_newer_ones_are_told_and_set_aside(run):
    flip(run, 3)
    flip(run, 2)
    found, warnings = start(run)
    assert found.metadata.step == 1
    assert len(warnings) == 2
    for step, warning in zip((3, 2), warnings, strict=True):
        assert f"step-{step:08d}.safetensors is damaged: its sha256 is not the committed one" in warning
        assert warning.endswith("; falling back to the one before it")
    assert names(run) == [
        *("step-00000001.json", "step-00000001.safetensors", "step-00000002.damaged", "step-00000003.damaged")
    ]


def test_damaged_ones_stay_where_none_is_whole(run):
    for step in (1, 2, 3):
        flip(run, step)
    before = names(run)
    with pytest.raises(CheckpointError):
        start(run)
    assert names(run) == before


def test_a_newer_file_without_a_record_is_told_and_left_alone(run):
    (run.checkpoints / "step-00000003.json").unlink()
    found, warnings = start(run)
    assert found.metadata.step == 2
    path = run.checkpoints / "step-00000003.safetensors"
    assert warnings == [f"{path} is newer but has no commit record, so it is ignored"]
    assert path.exists()


def test_of_several_files_without_a_record_the_newest_is_told(run):
    for step in (2, 3):
        (run.checkpoints / f"step-{step:08d}.json").unlink()
    found, warnings = start(run)
    assert found.metadata.step == 1
    assert [("step-00000003" in w) for w in warnings] == [True]


def test_an_older_file_without_a_record_is_not_worth_a_word(run):
    (run.checkpoints / "step-00000002.json").unlink()
    assert start(run)[1] == []


def test_going_on_from_an_older_checkpoint_needs_a_run_of_its_own(run):
    with pytest.raises(UsageError, match=r"^the run first has already continued from step 2 to 3$") as caught:
        check_newest(run, checkpoint(2))
    assert caught.value.hint == "add --name NEW to continue from here in a new run"
    check_newest(run, checkpoint(3))
    check_newest(run, checkpoint(4))


def test_a_run_without_checkpoints_has_no_newer_one(tmp_path):
    check_newest(create_run(tmp_path, "new", "small"), checkpoint(1))


def test_a_branch_has_the_recipe_and_the_metrics_so_far_and_no_checkpoint(run, tmp_path):
    run.log({"kind": "train", "step": 1})
    recipe = load_recipe("fast")
    new = branch(tmp_path / "runs", run, "second", checkpoint(3), recipe)
    assert new.folder == tmp_path / "runs" / "second"
    assert 'name = "fast"' in new.recipe.read_text()
    assert json.loads(new.metrics.read_text()) == {"kind": "train", "step": 1}
    assert run.metrics.read_text() == new.metrics.read_text()
    assert commits(new.checkpoints) == []
    assert commits(run.checkpoints)[0].step == 3


def test_a_branch_of_a_run_without_metrics_has_none(run, tmp_path):
    assert not run.metrics.exists()
    new = branch(tmp_path / "runs", run, "second", checkpoint(3), load_recipe("small"))
    assert not new.metrics.exists()


def test_a_branch_never_takes_the_name_of_a_run(run, tmp_path):
    with pytest.raises(UsageError):
        branch(tmp_path / "runs", run, "first", checkpoint(3), load_recipe("small"))
