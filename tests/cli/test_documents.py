"""`--json`: one object on stdout, whatever the command and however it ends."""

import json
import subprocess
import sys

import pytest


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
