"""Deleting a run: all of it or none, and `latest` leads on."""

import os
import signal
from pathlib import Path

import pytest

from resnetctl.errors import ResnetctlError, UsageError
from resnetctl.runs.find import runs
from resnetctl.runs.folder import LATEST, Run
from resnetctl.runs.remove import remove_run
from tests.fixtures.runs import hold, make_run
from tests.moments import kill_before
from tests.process import start


@pytest.fixture
def root(tmp_path):
    """The runs a, b and c, of which c is the latest and b the one before it."""
    for name, when in (("a", 100), ("b", 200), ("c", 300)):
        run = make_run(tmp_path, name)
        os.utime(run.checkpoints, (when, when))
    return tmp_path


def test_a_run_goes_with_all_that_is_in_it(root):
    (root / "b" / "notes").mkdir()
    (root / "b" / "notes" / "x").write_text("x")
    remove_run(root, Run(root / "b"))
    assert sorted(p.name for p in root.iterdir()) == ["a", "c", LATEST]
    assert (root / LATEST).readlink() == Path("c")


def test_latest_then_leads_to_the_newest_that_is_left(root):
    remove_run(root, Run(root / "c"))
    assert (root / LATEST).readlink() == Path("b")


def test_with_the_last_run_latest_goes_too(root):
    for name in "abc":
        remove_run(root, Run(root / name))
    assert list(root.iterdir()) == []


def test_a_link_in_a_run_is_not_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("x")
    (root / "a" / "link").symlink_to(elsewhere)
    remove_run(root, Run(root / "a"))
    assert (elsewhere / "precious").read_text() == "x"


def test_a_linked_run_is_refused(root):
    (root / "link").symlink_to("a")
    with pytest.raises(UsageError, match="symbolic link"):
        remove_run(root, Run(root / "link"))
    assert (root / "a" / "recipe.toml").exists()


def test_a_run_that_trains_is_refused(root):
    holder = start(hold, root / "c")
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResnetctlError, match="another resnetctl is training"):
            remove_run(root, Run(root / "c"))
    finally:
        holder.kill()
        holder.communicate()
    assert (root / "c" / "recipe.toml").exists()
    assert (root / LATEST).readlink() == Path("c")


def test_a_deletion_that_is_cut_short_leaves_a_run_that_can_be_deleted(root):
    child = os.fork()
    if not child:
        kill_before((f"rmdir {root / 'a'}*", 1))
        remove_run(root, Run(root / "a"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert "a" in [r.name for r in runs(root)]
    remove_run(root, Run(root / "a"))
    assert not (root / "a").exists()
