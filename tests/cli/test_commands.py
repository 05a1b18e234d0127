"""What is listed of a command before it is imported is what the command says of itself."""

import subprocess
import sys

import pytest

from resnetctl.cli import help
from resnetctl.cli.app import build
from resnetctl.cli.commands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_first_sentence_of_the_help(name):
    assert COMMANDS[name].summary == help.first_sentence(build().commands[name].help)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["info", "--help"]])
def test_only_the_command_asked_for_is_imported(words):
    program = (
        "import sys\n"
        "from resnetctl.cli.app import run\n"
        "code = run(sys.argv[1:])\n"
        "targets = {'resnetctl.cli.train', 'resnetctl.cli.eval', 'resnetctl.cli.runs', 'resnetctl.cli.info'}\n"
        "print(sorted(targets & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stderr == ("['resnetctl.cli.info']\n" if words[0] == "info" else "[]\n")


def test_a_group_has_no_options_of_typers_own():
    assert {opt for param in build().commands["runs"].params for opt in param.opts} == {
        "-q",
        "--quiet",
        "-v",
        "--verbose",
    }
