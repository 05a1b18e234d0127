"""`--json`: one object on stdout, whatever the command and however it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from resnetctl.cli.app import build

ERROR = ("message", "hint", "exit_code")
DOCUMENTS = {
    "bench": "data recipe device measured",
    "checkpoint list": "ok checkpoints",
    "checkpoint show": "checkpoint step epoch top1 top5 recipe bytes sha256 is_best ok problem metadata",
    "checkpoint verify": "ok checkpoints",
    "eval": "results comparisons",
    "export": "path format bytes model checkpoint step weights network classes check",
    "info": "resnetctl cpu memory accelerators versions decoders shared_memory data disks device workers",
    "plan": "data recipe device limits images_per_second workers cores micro_batch largest_micro_batch memory_bytes "
    "memory_free_bytes shm_bytes shm_free_bytes disk_bytes disk_free_bytes steps epoch_seconds eval_seconds "
    "run_seconds advice problems measured",
    "predict": "model checkpoint predictions",
    "prepare": "data name source images_root recipe classes splits incomplete notes seconds",
    "recipe diff": "a b differences",
    "recipe list": "recipes",
    "recipe show": "recipe summary notes published source origins values effective",
    "report": "page bytes pictures runs",
    "runs compare": "runs differences",
    "runs export-metrics": "lines",
    "runs list": "runs",
    "runs rm": "runs",
    "runs show": "name run state recipe arch epoch epochs best last last_written bytes readings evaluations",
    "train": "run data checkpoint step steps complete top1 top5 best_top1 best_epoch seconds images_per_second waiting "
    "unreadable unreadable_names",
    "verify": "data ok name source incomplete images checks bad duplicates unusual quarantined notes seconds",
}
"""The fields of each command's document besides `kind` and `version`, in their order; the README has the same table."""

SMALL = "--recipe small --arch resnet18 --workers 0 --device cpu --set data.train_size=32 --set data.val_size=32"
EVAL = "--set data.val_resize=32"
LINES = {
    "bench": f"bench {SMALL} --batch-size 8 --seconds 0.1",
    "checkpoint list": "checkpoint list first",
    "checkpoint show": "checkpoint show first",
    "checkpoint verify": "checkpoint verify first",
    "eval": "eval first --against second --workers 0 --device cpu",
    "export": "export first --out {place}/first.safetensors --check 4",
    "info": "info",
    "plan": f"plan {SMALL} {EVAL} --batch-size 8 --seconds 0.1",
    "predict": "predict {place}/pictures/val --run first --workers 0 --device cpu",
    "prepare": "prepare {place}/pictures",
    "recipe diff": "recipe diff small fast",
    "recipe list": "recipe list",
    "recipe show": "recipe show small",
    "report": "report first --out {place}/report.html --workers 0 --device cpu",
    "runs compare": "runs compare first second",
    "runs export-metrics": "runs export-metrics first second",
    "runs list": "runs list",
    "runs rm": "runs rm third --yes",
    "runs show": "runs show first",
    "train": f"train {SMALL} {EVAL} --batch-size 4 --epochs 1 --name fourth",
    "verify": "verify --workers 0",
}


def with_json(command, name=""):
    """The names of the commands below `command` that take --json."""
    for word, sub in getattr(command, "commands", {}).items():
        yield from with_json(sub, f"{name} {word}".strip())
    if any("--json" in param.opts for param in command.params):
        yield name


@pytest.fixture(scope="module")
def documents(zygote, tmp_path_factory):
    """What each command prints with --json, by its kind, with its exit code."""
    place = tmp_path_factory.mktemp("documents")
    for n, split in enumerate(("train", "val")):
        for c in ("cat", "dog"):
            (place / "pictures" / split / c).mkdir(parents=True)
            for i in range(4):
                image = Image.new("RGB", (40 + i, 36), (60 * i, 90 if c == "cat" else 200, 60 * n))
                image.save(place / "pictures" / split / c / f"{i}.png")

    def run(line):
        words = line.format(place=place).split()
        return zygote.run(*words, RESNETCTL_DATA=str(place / "data"), RESNETCTL_RUNS=str(place / "runs"))

    assert run(LINES["prepare"]).returncode == 0
    for name in ("first", "second", "third"):
        done = run(f"train {SMALL} {EVAL} --batch-size 4 --epochs 1 --name {name}")
        assert done.returncode == 0, done.err
    done = {kind: run(f"{line} --json") for kind, line in LINES.items()}
    return {kind: (d.returncode, json.loads(d.out)) for kind, d in done.items()}


def test_every_command_with_the_option_is_in_the_table():
    assert sorted(with_json(build())) == sorted(DOCUMENTS) == sorted(LINES)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_has_the_fields_of_the_table(kind, documents):
    code, document = documents[kind]
    assert code == 0
    assert list(document) == ["kind", "version", *DOCUMENTS[kind].split()]
    assert (document["kind"], document["version"]) == (kind, 1)


def objects(value):
    """All objects in `value`, itself first, but those whose keys come from data."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def test_a_word_means_the_same_in_every_document(documents):
    """A field of one name has one type, or is null; a whole number is a number."""
    kinds: dict[str, dict[type, str]] = {}
    for name, (_, document) in documents.items():
        listed = [item for value in document.values() if isinstance(value, list) for item in value]
        for found in (document, *(item for item in listed if isinstance(item, dict))):
            for key, value in found.items():
                if key in ("kind", "values", "a", "b") or value is None:
                    continue
                kind = float if type(value) is int else type(value)
                kinds.setdefault(key, {}).setdefault(kind, name)
    assert {key: found for key, found in kinds.items() if len(found) > 1} == {}


def test_paths_are_called_alike(documents):
    runs = [d["run"] for _, d in documents.values() if "run" in d]
    runs += [r["run"] for kind in ("runs list", "runs compare", "runs rm") for r in documents[kind][1]["runs"]]
    assert len(runs) >= 7
    assert all(Path(run).parent.name == "runs" for run in runs)
    assert {d["data"] for _, d in documents.values() if "data" in d} == {documents["prepare"][1]["data"]}
    files = [d["checkpoint"] for _, d in documents.values() if "checkpoint" in d]
    assert all(file.endswith(".safetensors") for file in files)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_wrong_option_is_a_document_with_every_command(kind, zygote):
    done = zygote.run(*kind.split(), "--json", "--no-such-option")
    document = json.loads(done.out)
    assert done.returncode == 2
    assert list(document) == ["kind", "version", *ERROR]
    assert (document["kind"], document["version"], document["exit_code"]) == ("error", 1, 2)


def test_the_readme_has_the_table():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    if "<!-- json -->" not in readme:
        pytest.skip("the README has no such table yet")
    table = readme.partition("<!-- json -->")[2].strip().partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if "`" in line]
    found = {re.findall("`([^`]+)`", kind)[0]: re.findall("`([^`]+)`", fields) for kind, fields in rows}
    assert found == {kind: fields.split() for kind, fields in DOCUMENTS.items()} | {"error": list(ERROR)}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["recipe", "show", "smal", "--json"], 2, "no recipe is called smal"),
        (["info", "--json", "--nonsense"], 2, "unknown option --nonsense"),
        (["train", "--epochs", "x", "--json"], 2, "not a whole number"),
        (["trian", "--json"], 2, "unknown command 'trian'"),
        (["checkpoint", "show", "--json"], 1, "no run"),
        (["verify", "--json"], 3, "no data set is prepared"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_a_document_too(args, code, message, cli):
    done = cli(*args)
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert (document["kind"], document["version"], document["exit_code"]) == ("error", 1, code)
    assert message in document["message"]
    assert document["hint"]
    assert f"error: {document['message']}\n" in done.stderr


def test_without_the_option_an_error_leaves_stdout_empty(cli):
    assert cli("recipe", "show", "smal").stdout == ""


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
@pytest.mark.parametrize("command", ["recipe show small", "recipe show small --json", "completion bash", "recipe list"])
def test_a_closed_stdout_is_an_error_and_no_traceback(command, closed, tmp_path):
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m resnetctl {command} {closed}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if "2>" in closed:
        assert done.stderr == ""
        assert done.returncode == (1 if " >&-" in closed else 0)
    else:
        assert done.returncode == 1
        assert done.stderr == "error: stdout is closed\n\nhint: send the result to a file, or to /dev/null\n"


def test_a_command_that_prints_nothing_needs_no_stdout(tmp_path):
    command = f"exec '{sys.executable}' -m resnetctl recipe diff fast fast >&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "fast and fast have the same values\n")
