"""`resnetctl runs`: for people, for programs, and for those who delete the wrong thing."""

import csv
import io
import json
import os
import subprocess
import sys

import pexpect
import pytest

from resnetctl.runs.folder import create_run
from tests.fixtures.runs import hold, make_run, recipe
from tests.process import start


@pytest.fixture
def root(tmp_path):
    """The runs long (complete), short (stopped; another rate) and new (nothing yet), long the latest."""
    root = tmp_path / "runs"
    create_run(root, "new", "small")
    make_run(root, "short", steps=20, of=recipe(optimizer__lr=0.05))
    make_run(root, "long")
    for name, when in (("new", 1e9), ("short", 2e9), ("long", 3e9)):
        for path in [*(root / name).rglob("*")]:
            os.utime(path, (when, when))
    return root


def test_list(root, cli):
    done = cli("runs", "list", env={"TZ": "UTC"})
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split("  ")[0] == "run"
    assert [row.split()[0] for row in rows] == ["long", "short", "new"]
    assert "small" in rows[0]
    assert "resnet50" in rows[0]
    assert "3 of 3" in rows[0]
    assert "60.00 %" in rows[0]
    assert "2065-01-24 05:20  complete" in rows[0]
    assert "2 of 3" in rows[1]
    assert "stopped" in rows[1]


def test_list_as_json(root, cli):
    document = json.loads(cli("runs", "list", "--json").stdout)
    assert (document["kind"], document["version"]) == ("runs list", 1)
    long, short, new = document["runs"]
    assert (long["name"], long["state"], long["epoch"], long["epochs"]) == ("long", "complete", 3.0, 3)
    assert (long["best"]["step"], long["best"]["top1"], long["last"]["top1"]) == (20, 60.0, 50.0)
    assert long["last_written"] == 3e9
    assert short["state"] == "stopped"
    assert new["state"] is new["best"] is new["last"] is None


def test_list_shows_a_run_that_trains(root, cli):
    holder = start(hold, root / "short")
    try:
        assert holder.stdout.readline() == "held\n"
        document = json.loads(cli("runs", "list", "--json").stdout)
    finally:
        holder.kill()
        holder.communicate()
    assert {run["name"]: run["state"] for run in document["runs"]}["short"] == "running"


def test_no_run_is_told(tmp_path, cli):
    done = cli("runs", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no runs in runs; start one with: resnetctl train" in done.stderr


def test_show_draws_loss_and_top1_in_plain_characters(root, cli):
    done = cli("runs", "show", env={"TERM": "dumb"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs/long\n")
    assert "best top-1          60.00 % after epoch 2\n" in done.stdout
    assert "time                9.0 s\n" in done.stdout
    assert "loss   . training   o val\n" in done.stdout
    assert "correct, %   + top-5   o top-1\n" in done.stdout
    assert done.stdout.isascii()


def test_show_of_a_run_without_metrics(root, cli):
    done = cli("runs", "show", "new")
    assert done.returncode == 0, done.stderr
    assert "loss: nothing measured yet" in done.stdout


def test_show_as_json_has_every_line(root, cli):
    document = json.loads(cli("runs", "show", "short", "--json").stdout)
    assert document["kind"] == "runs show"
    assert [r["step"] for r in document["readings"]] == [5, 10, 15, 20]
    assert [e["top1"] for e in document["evaluations"]] == [20.0, 60.0]


def test_compare_shows_what_differs_and_nothing_else(root, cli):
    done = cli("runs", "compare", "long", "short")
    assert done.returncode == 0, done.stderr
    recipes, results = done.stdout.split("\n\n")
    assert [line.split() for line in recipes.splitlines()] == [
        ["recipe", "long", "short"],
        ["optimizer.lr", "0.1", "0.05"],
        ["optimizer.lr_batch", "64", "0"],
    ]
    assert "state               complete" in results
    assert "stopped" in results


def test_compare_of_the_same_recipe_says_so(root, cli):
    make_run(root, "again")
    assert "the recipes are the same" in cli("runs", "compare", "long", "again").stdout


def test_compare_as_json(root, cli):
    document = json.loads(cli("runs", "compare", "long", "short", "new", "--json").stdout)
    assert document["kind"] == "runs compare"
    assert {d["key"]: d["values"] for d in document["differences"]}["optimizer.lr"] == [0.1, 0.05, None]
    assert [run["name"] for run in document["runs"]] == ["long", "short", "new"]


def test_compare_needs_two(root, cli):
    done = cli("runs", "compare", "long")
    assert done.returncode == 2
    assert "compare needs two runs or more" in done.stderr


def test_export_metrics_is_csv(root, cli):
    done = cli("runs", "export-metrics", "long", "short")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 9 + 6
    assert rows[0] == {
        **{"run": "long", "kind": "train", "step": "5", "epoch": "0.5", "loss": str(3 - 5 / 15), "lr": "0.1"},
        **{"images_per_second": "640.0", "waiting": "0.25", "top1": "", "top5": "", "images": "", "seconds": ""},
        **{"time": "1000000005.0", "worked": "0.5"},
    }
    assert (rows[2]["kind"], rows[2]["top1"], rows[2]["lr"], rows[2]["worked"]) == ("eval", "20.0", "", "3.0")
    assert rows[-1]["run"] == "short"


def test_export_metrics_as_json_is_the_latest_run(root, cli):
    document = json.loads(cli("runs", "export-metrics", "--json").stdout)
    assert document["kind"] == "runs export-metrics"
    assert {line["name"] for line in document["lines"]} == {"long"}
    assert len(document["lines"]) == 9


def test_rm_deletes_and_mends_latest(root, cli):
    done = cli("runs", "rm", "long", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("deleted runs/long, ")
    assert sorted(p.name for p in root.iterdir()) == ["latest", "new", "short"]
    assert cli("runs", "show").stdout.startswith("runs/short\n")


def test_rm_as_json(root, cli):
    document = json.loads(cli("runs", "rm", "long", "new", "--yes", "--json").stdout)
    assert document["kind"] == "runs rm"
    assert [run["name"] for run in document["runs"]] == ["long", "new"]


def test_rm_deletes_nothing_where_nobody_can_be_asked(root, cli):
    done = cli("runs", "rm", "long")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert (root / "long" / "recipe.toml").exists()


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("n", False), ("", False)])
def test_rm_asks(answer, gone, root, tmp_path):
    child = pexpect.spawn(
        sys.executable, ["-m", "resnetctl", "runs", "rm", "long"], cwd=str(tmp_path), encoding="utf-8"
    )
    child.expect("best top-1 60.00 %")
    child.expect("delete 1 run with all checkpoints")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == (0 if gone else 1)
    assert (root / "long").exists() != gone


def test_rm_refuses_a_run_that_trains_and_deletes_none_of_the_others(root, cli):
    holder = start(hold, root / "short")
    try:
        assert holder.stdout.readline() == "held\n"
        done = cli("runs", "rm", "long", "short", "--yes")
    finally:
        holder.kill()
        holder.communicate()
    assert done.returncode == 2
    assert "error: short is being trained\n" in done.stderr
    assert (root / "long").exists()
    assert (root / "short" / "recipe.toml").exists()


def test_rm_of_a_run_that_is_not_there(root, cli):
    done = cli("runs", "rm", "log", "--yes")
    assert done.returncode == 1
    assert "there is no run or checkpoint log: did you mean long?" in done.stderr


@pytest.mark.parametrize(
    "args", [["list"], ["show"], ["compare", "long", "short"], ["export-metrics"], ["rm", "new", "-y"]]
)
def test_none_of_them_loads_torch(args, root, tmp_path):

    code = f"import sys; sys.argv = ['resnetctl', 'runs', *{args!r}]\nfrom resnetctl.cli.app import run\n"
    code += "code = run(sys.argv[1:]); assert code == 0, code\n"
    code += "assert not {'torch', 'torchvision', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
