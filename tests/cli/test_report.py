"""`resnetctl report` as users run it."""

import json

import pytest

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from tests.fixtures.models import write_run
from tests.fixtures.pages import Page
from tests.fixtures.runs import make_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The sample, a run of an untrained network that knows its classes, and one without tensors."""
    root = tmp_path_factory.mktemp("report")
    prepare(root / "data", kind="sample")
    info = load_dataset(root / "data").val().info
    write_run(root / "runs", "net", info.classes, environment={"micro-batch": 32, "torch": "2.14"})
    make_run(root / "runs", "logged")
    return root


@pytest.fixture
def report(cli, root):
    def run(*args, data="data", **how):
        env = {"RESNETCTL_DATA": str(root / data), "RESNETCTL_RUNS": str(root / "runs")}
        return cli("report", *args, "--device", "cpu", "--workers", "0", env=env, **how)

    return run


def test_a_page_of_two_runs(report, tmp_path):
    done = report("net", "logged")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "report.html\n"
    read = Page((tmp_path / "report.html").read_text())
    assert "logged was not evaluated" in read.text
    assert "warning: logged is not evaluated" in done.stderr
    assert "net, step 1" in read.text
    assert "What net takes for what" in read.text
    assert len(read.all("img")) == 24
    assert report("net", "logged").returncode == 0  # a report replaces a report


def test_without_a_data_set_the_curves_alone(report, tmp_path):
    done = report("logged", data="nowhere")
    assert done.returncode == 0, done.stderr
    assert "no data set is prepared in" in done.stderr
    assert "the report has only the curves" in done.stderr
    read = Page((tmp_path / "report.html").read_text())
    assert "logged was not evaluated: no data set is prepared in" in read.text
    assert len(read.all("svg")) == 10


def test_curves_only_evaluates_nothing(report, tmp_path):
    done = report("net", "logged", "--curves-only", "--png", "plots", "--out", "r.html", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["kind"], document["version"], document["page"]) == ("report", 1, "r.html")
    assert document["bytes"] == (tmp_path / "r.html").stat().st_size
    assert [run["evaluated"] for run in document["runs"]] == [False, False]
    assert sorted(document["pictures"]) == sorted(f"plots/{p.name}" for p in (tmp_path / "plots").iterdir())
    assert "plots/loss-over-epochs.png" in document["pictures"]


def test_what_the_network_will_see_before_any_training(report, tmp_path):
    done = report("--samples", "--recipe", "torchvision-v2", "--set", "data.train_size=64", "--set", "train.epochs=9")
    assert done.returncode == 0, done.stderr
    read = Page((tmp_path / "report.html").read_text())
    assert len(read.all("img")) == 28
    assert "step 1, in epoch 1, 64 px" in read.text
    assert "% of each image its own" in read.text
    assert read.all("svg") == []


def test_what_a_run_saw(report, tmp_path):
    done = report("net", "--samples", "--curves-only")
    assert done.returncode == 0, done.stderr
    read = Page((tmp_path / "report.html").read_text())
    assert "step 1, in epoch 1, 32 px" in read.text
    assert len(read.all("img")) == 28


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--recipe", "small"], 2, "--recipe needs --samples"),
        (["net", "--samples", "--recipe", "small"], 2, "--recipe cannot be combined with runs"),
        (["net", "--set", "train.epochs=3"], 2, "cannot change a run's own recipe"),
        (["net", "--out", "r.pdf"], 2, "not the name of an HTML file"),
        (["nett"], 1, "did you mean net?"),
        (["--samples", "--recipe", "smal"], 2, "did you mean small?"),
        (["--samples", "--recipe", "small", "--data", "nowhere"], 3, "no data set is prepared"),
    ],
)
def test_refusals(report, args, code, message):
    done = report(*args)
    assert done.returncode == code
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert done.stdout == ""


def test_a_page_of_somebody_else_stays(report, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    done = report("logged", "--curves-only")
    assert done.returncode == 2
    assert "is not a report" in done.stderr
    assert (tmp_path / "report.html").read_text() == "mine"


def test_without_matplotlib(report, tmp_path, root):
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    done = report("logged")
    assert done.returncode == 1
    assert 'hint: pip install "resnetctl[report]"' in done.stderr
    assert not (tmp_path / "report.html").exists()
