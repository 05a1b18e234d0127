"""TAB in real shells: what is typed, what is offered, what the line becomes."""

import os
import shutil
import subprocess
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
    assert values(ask("fish", "export", "--format", "")) == ["safetensors", "timm", "onnx", "torch-export"]
    assert values(ask("fish", "train", "--set", "train.compile=")) == [
        f"train.compile={v}" for v in ("auto", "on", "off")
    ]
    assert values(ask("fish", "train", "--set=train.sync_bn=t")) == ["--set=train.sync_bn=true"]
    assert values(ask("fish", "train", "--set", "train.epochs=")) == []
    assert values(ask("fish", "train", "--set", "nonsense=")) == []


def test_run_names(ask, tmp_path):
    for name in ("one", "two words", "it's"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "latest").symlink_to("one")
    expected = ["latest", "it's", "one", "two words"]
    assert sorted(values(ask("fish", "train", "--runs", "elsewhere", "--resume", ""))) == sorted(expected)
    assert sorted(values(ask("fish", "train", "--resume", "", RESNETCTL_RUNS="elsewhere"))) == sorted(expected)
    assert values(ask("fish", "train", "--resume", "")) == []


def test_checkpoint_files(ask, tmp_path):
    """All of them once a letter is typed, before that the newest run's."""
    for number, run in enumerate(("old", "new")):
        folder = tmp_path / "runs" / run / "checkpoints"
        folder.mkdir(parents=True)
        for step in (31, 62):
            (folder / f"step-{step:08d}.safetensors").touch()
        os.utime(folder.parent, (1e9 + number, 1e9 + number))
    files = [f"runs/{run}/checkpoints/step-{step:08d}.safetensors" for run in ("new", "old") for step in (62, 31)]
    for command in (["eval"], ["train", "--resume"], ["checkpoint", "show"]):
        assert values(ask("fish", *command, "")) == ["new", "old", *files[:2]]
        assert values(ask("fish", *command, "runs/")) == files
    assert values(ask("bash", "", _RESNETCTL_LINE="resnetctl eval runs/old/checkpoints/step-0000003")) == files[3:]


def test_folders_are_left_to_the_shell(ask):
    assert ask("fish", "train", "--data", "") == [["dir", "", ""]]


def test_a_path_in_place_of_a_name_is_left_to_the_shell(ask):
    assert ask("fish", "train", "--recipe", "./my") == [["file", "", ""]]
    assert ask("fish", "eval", "~/") == [["file", "", ""]]
    assert ask("fish", "train", "--recipe", "my") == []


def test_weights_are_names_or_files(ask):
    for command in ("train", "eval", "predict", "export"):
        offers = ask("fish", command, "--weights", "")
        assert values(offers) == ["imagenet1k-v1", "imagenet1k-v2", "hf:timm/"]
        assert offers[-1] == ["file", "", ""]
    assert ask("fish", "train", "--weights", "start") == [["file", "", ""]]
    assert values(ask("fish", "train", "--weights", "hf:")) == ["hf:timm/"]
    assert ask("fish", "train", "--weights", "hf:timm/resnet50.a1_in1k") == []


def test_nonsense_on_the_line_offers_nothing(ask):
    assert ask("fish", "nonsense", "") == []
    assert ask("fish", "train", "--nonsense", "--recipe", "nonsense") == []


class Shell:
    """An interactive shell in which one can type. It is waited for by what it writes, however long that takes."""

    def __init__(self, child: "pexpect.spawn[str]") -> None:
        self.child = child

    def run(self, command: str) -> str:
        """What `command` prints; the shell has shown its prompt again."""
        self.child.sendline(f"{command}; echo DO''NE")  # the quotes tell the echo of what was typed from its output
        self.child.expect_exact("DONE")
        shown: str = self.child.before
        self.child.expect_exact(PROMPT)
        return shown

    def complete(self, typed: str) -> str:
        """The line that `typed` becomes when TAB and then an X is hit, shown by having the shell echo it."""
        # first what clears the line: a shell that is still taking up its terminal may lose the first keys
        self.child.send("\x15\x15")
        self.child.send(typed + "\tX\x05'\x01echo 'LINE:\r")  # end of line, quote; beginning, the other quote
        self.child.expect("\nLINE:(.*?)\r?\n")
        line: str = self.child.match[1].rstrip("\r")
        self.child.expect_exact(PROMPT)
        return line

    def offers(self, typed: str, *names: str) -> None:
        """Wait until the shell shows all `names` for `typed`, which may go on in several ways."""
        if self.child.command.endswith("fish"):  # it needs a whole terminal to show its list
            shown = self.run(f"complete -C '{typed}'")
            assert all(name in shown for name in names), shown
            return
        self.child.send("\x15\x15")  # as in `complete`
        self.child.send(typed + "\t")
        missing = list(names)
        while missing:
            missing.pop(self.child.expect_exact(missing))
        self.child.sendintr()
        self.child.expect_exact(PROMPT)


START = {
    "bash": (
        ["--norc", "--noprofile", "-i"],
        f"PS1='{PROMPT}'; bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'",
    ),
    "zsh": (
        ["-f", "-i"],
        "unsetopt zle_bracketed_paste prompt_cr prompt_sp list_ambiguous auto_menu; bindkey -e; "
        f"LISTMAX=1000; PS1='{PROMPT}'",
    ),
    "fish": (
        ["--no-config", "-i"],
        f"function fish_prompt; echo -n '{PROMPT}'; end; set -g fish_autosuggestion_enabled 0",
    ),
}


def bin_folder(place: Path) -> Path:
    """A folder in which `resnetctl` is this one."""
    folder = place / "bin"
    folder.mkdir()
    program = folder / "resnetctl"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec "{sys.executable}" -m resnetctl "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def shell(request, tmp_path) -> Iterator[Shell]:
    name, load = request.param
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    home = tmp_path / "home"
    for folder in ("photos/train", "photos/val", "runs/first/checkpoints"):
        (home / folder).mkdir(parents=True)
    (home / "runs/first/checkpoints/step-00000031.safetensors").touch()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RESNETCTL_", "_RESNETCTL_", "XDG_"))}
    env |= {
        "PATH": f"{bin_folder(tmp_path)}:{env['PATH']}",
        "HOME": str(home),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "COLUMNS": "160",
    }
    arguments, first = START[name]
    child = pexpect.spawn(program, arguments, cwd=home, env=env, encoding="utf-8", timeout=300, dimensions=(60, 160))
    typist = Shell(child)
    typist.run(first)
    for line in load.format(files=REPOSITORY / "completions").splitlines():
        typist.run(line)
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
    assert shell.complete("resnetctl prepare ph") == "resnetctl prepare photos/X"
    assert shell.complete("resnetctl train --data ph") == "resnetctl train --data photos/X"
    shell.offers("resnetctl train --recipe ", "fast", "onepager", "small")
    shell.offers("resnetctl ", "prepare", "train", "eval", "completion")


@ALL
def test_settings_in_a_real_shell(shell):
    begun = "resnetctl train --set"
    assert shell.complete(f"{begun} checkpoint.every_s") == f"{begun} checkpoint.every_steps=X"
    assert shell.complete(f"{begun} train.deter") == f"{begun} train.deterministic=X"
    assert shell.complete(f"{begun} train.deterministic=f") == f"{begun} train.deterministic=false X"
    assert shell.complete(f"{begun} train.compile=a") == f"{begun} train.compile=auto X"
    shell.offers(f"{begun} train.compile=", "auto", "off", "on")
    assert shell.complete(f"{begun} checkpoint.every_steps=") == f"{begun} checkpoint.every_steps=X"


@ALL
def test_runs_and_checkpoints_in_a_real_shell(shell):
    file = "runs/first/checkpoints/step-00000031.safetensors"
    assert shell.complete("resnetctl train --resume fi") == "resnetctl train --resume first X"
    assert shell.complete("resnetctl train --resume runs/f") == f"resnetctl train --resume {file} X"
    assert shell.complete("resnetctl eval runs/f") == f"resnetctl eval {file} X"
    assert shell.complete("resnetctl eval ./ru") == "resnetctl eval ./runs/X"


def test_the_lines_of_the_readme_work_in_an_empty_home(tmp_path):
    readme = (REPOSITORY / "README.md").read_text()
    block = readme.partition("## Shell completion")[2].split("```")[1]
    lines = [line for line in block.splitlines()[1:] if "$PROFILE" not in line]
    env = {"PATH": f"{bin_folder(tmp_path)}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}
    done = subprocess.run(["bash", "-e", "-c", "\n".join(lines)], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = {p.name: p.read_text() for p in (tmp_path / "home").rglob("*") if p.is_file()}
    for name in ("resnetctl", "_resnetctl", "resnetctl.fish"):
        file = "resnetctl.bash" if name == "resnetctl" else name
        assert written.pop(name) == (REPOSITORY / "completions" / file).read_text()
    assert not written
