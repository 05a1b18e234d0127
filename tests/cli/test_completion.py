"""TAB in real shells: what is typed, what is offered, what the line becomes."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = {"bash": "resnetctl.bash", "zsh": "_resnetctl", "fish": "resnetctl.fish", "powershell": "resnetctl.ps1"}
PROMPT = "ready> "


@pytest.mark.parametrize(("shell", "name"), FILES.items())
def test_file_is_what_the_command_prints(cli, shell, name):
    done = cli("completion", shell)
    assert done.returncode == 0
    assert (REPOSITORY / "completions" / name).read_text() == done.stdout, (
        f"stale: resnetctl completion {shell} > completions/{name}"
    )


def test_zsh_file_is_found_by_compinit():
    assert (REPOSITORY / "completions" / "_resnetctl").read_text().startswith("#compdef resnetctl\n")


def test_unknown_shell(cli):
    done = cli("completion", "bsh")
    assert done.returncode == 2
    assert "did you mean bash" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def ask(cli) -> Callable[..., list[list[str]]]:
    def run(shell: str, *words: str, **env: str) -> list[list[str]]:
        *before, word = words
        variables = {"_RESNETCTL_WORDS": "\n".join(["resnetctl", *before]), "_RESNETCTL_WORD": word}
        done = cli(env={"_RESNETCTL_COMPLETE": shell, **variables, **env})
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run


def values(offers: list[list[str]]) -> list[str]:
    return [value for kind, value, _ in offers if kind == "plain"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_commands_with_help(ask, shell):
    offers = ask(shell, "")
    assert {"prepare", "verify", "train", "eval", "recipe", "info", "completion"} <= set(values(offers))
    assert all(help_text for _, _, help_text in offers)
    assert values(ask(shell, "tr")) == ["train"]


def test_options_before_and_without_a_dash(ask):
    assert "--epochs" in values(ask("fish", "train", "--e"))
    assert "--quiet" in values(ask("fish", "train", "--"))
    assert "--json" in values(ask("fish", "info", ""))
    assert "--json" in values(ask("fish", "-q", "info", "--j"))


def test_values(ask):
    recipes = {path.stem for path in (REPOSITORY / "resnetctl" / "recipes").glob("*.toml")}
    assert set(values(ask("zsh", "train", "--recipe", ""))) == recipes
    assert values(ask("zsh", "train", "--recipe=sm")) == ["small"]
    assert values(ask("fish", "train", "--recipe=sm")) == ["--recipe=small"]
    assert values(ask("powershell", "train", "--recipe=sm")) == ["--recipe=small"]
    assert values(ask("fish", "completion", "z")) == ["zsh"]
    assert values(ask("fish", "train", "--arch", "resnet1")) == ["resnet18", "resnet101", "resnet152"]
    assert {"auto", "cpu", "cuda"} <= set(values(ask("fish", "train", "--device", "")))
    assert values(ask("fish", "train", "--set", "checkpoint.every_s")) == ["checkpoint.every_steps="]


def test_run_names(ask, tmp_path):
    for name in ("one", "two words", "it's"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "latest").symlink_to("one")
    expected = ["latest", "it's", "one", "two words"]
    assert sorted(values(ask("fish", "train", "--runs", "elsewhere", "--resume", ""))) == sorted(expected)
    assert sorted(values(ask("fish", "train", "--resume", "", RESNETCTL_RUNS="elsewhere"))) == sorted(expected)
    assert values(ask("fish", "train", "--resume", "")) == []


def test_folders_are_left_to_the_shell(ask):
    assert ask("fish", "train", "--data", "") == [["dir", "", ""]]


def test_a_path_in_place_of_a_name_is_left_to_the_shell(ask):
    assert ask("fish", "train", "--recipe", "./my") == [["file", "", ""]]
    assert ask("fish", "eval", "~/") == [["file", "", ""]]
    assert ask("fish", "train", "--recipe", "my") == []


def test_nonsense_on_the_line_offers_nothing(ask):
    assert ask("fish", "nonsense", "") == []
    assert ask("fish", "train", "--nonsense", "--recipe", "nonsense") == []


class Shell:
    """An interactive shell in which one can type."""

    def __init__(self, child: "pexpect.spawn[str]") -> None:
        self.child = child

    def run(self, command: str) -> None:
        self.child.sendline(command)
        self.child.expect_exact(PROMPT)

    def complete(self, typed: str) -> str:
        """The line that `typed` becomes when TAB and then an X is hit, shown by having the shell echo it."""
        self.child.send(typed + "\tX\x05'\x01echo 'LINE:\r")  # end of line, quote; beginning, the other quote
        self.child.expect("\nLINE:(.*?)\r?\n")
        line: str = self.child.match[1].rstrip("\r")
        self.child.expect_exact(PROMPT)
        return line

    def offers(self, typed: str) -> str:
        """What the shell shows when `typed` may go on in several ways."""
        if self.child.command.endswith("fish"):  # it needs a whole terminal to show its list
            self.child.sendline(f"complete -C '{typed}'; echo DO''NE")
            self.child.expect_exact("DONE")
            shown = self.child.before
            self.child.expect_exact(PROMPT)
            return shown
        self.child.send(typed + "\t")
        shown = self.wait()
        self.child.send("\t")
        shown += self.wait()
        self.child.send("\x15\x03")
        self.child.expect_exact(PROMPT)
        self.wait()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)

    def wait(self) -> str:
        """What is written until the shell has been silent for a while."""
        shown = ""
        quiet = 1.0
        while True:
            try:
                shown += self.child.read_nonblocking(65536, quiet)
                quiet = 0.6
            except pexpect.TIMEOUT:
                return shown


START = {
    "bash": (["--norc", "--noprofile", "-i"], f"PS1='{PROMPT}'; bind 'set bell-style none'"),
    "zsh": (["-f", "-i"], f"unsetopt zle_bracketed_paste prompt_cr prompt_sp; bindkey -e; PS1='{PROMPT}'"),
    "fish": (
        ["--no-config", "-i"],
        f"function fish_prompt; echo -n '{PROMPT}'; end; set -g fish_autosuggestion_enabled 0",
    ),
}


@pytest.fixture
def shell(request, tmp_path) -> Iterator[Shell]:
    name, load = request.param
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    bin_folder, home = tmp_path / "bin", tmp_path / "home"
    bin_folder.mkdir()
    home.mkdir()
    wrapper = bin_folder / "resnetctl"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnetctl "$@"\n')
    wrapper.chmod(0o755)
    for folder in ("photos/train", "photos/val", "runs/first"):
        (home / folder).mkdir(parents=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "_RESNETCTL_", "XDG_"))}
    env |= {
        "PATH": f"{bin_folder}:{env['PATH']}",
        "HOME": str(home),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "COLUMNS": "160",
    }
    arguments, first = START[name]
    child = pexpect.spawn(program, arguments, cwd=home, env=env, encoding="utf-8", timeout=20, dimensions=(60, 160))
    typist = Shell(child)
    typist.wait()
    child.sendline(first)
    typist.wait()
    for line in load.format(files=REPOSITORY / "completions").splitlines():
        child.sendline(line)
        typist.wait()
    yield typist
    child.close(force=True)


BASH = ("bash", 'eval "$(resnetctl completion bash)"')
ZSH_SOURCED = ("zsh", 'autoload -Uz compinit; compinit -u -D\neval "$(resnetctl completion zsh)"')
ZSH_AUTOLOADED = ("zsh", "fpath=({files} $fpath); autoload -Uz compinit; compinit -u -D")
FISH = ("fish", "source {files}/resnetctl.fish")
ALL = pytest.mark.parametrize(
    "shell",
    [BASH, ZSH_SOURCED, ZSH_AUTOLOADED, FISH],
    indirect=True,
    ids=["bash", "zsh-sourced", "zsh-autoloaded", "fish"],
)


@ALL
def test_real_shell(shell):
    assert shell.complete("resnetctl tr") == "resnetctl train X"
    assert shell.complete("resnetctl train --rec") == "resnetctl train --recipe X"
    assert shell.complete("resnetctl train --recipe one") == "resnetctl train --recipe onepager X"
    assert shell.complete("resnetctl train --recipe=one") == "resnetctl train --recipe=onepager X"
    assert (
        shell.complete("resnetctl train --set checkpoint.every_s") == "resnetctl train --set checkpoint.every_steps=X"
    )
    assert shell.complete("resnetctl prepare ph") == "resnetctl prepare photos/X"
    assert shell.complete("resnetctl train --data ph") == "resnetctl train --data photos/X"
    assert shell.complete("resnetctl train --resume fi") == "resnetctl train --resume first X"
    shown = shell.offers("resnetctl train --recipe ")
    assert all(name in shown for name in ("fast", "onepager", "small")), shown
    shown = shell.offers("resnetctl ")
    assert all(name in shown for name in ("prepare", "train", "eval", "completion")), shown
