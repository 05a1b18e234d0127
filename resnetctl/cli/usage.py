"""Errors of the command line in our own form, with a guess at what was meant."""

import re
from typing import Any

from resnetctl.cli.typer_private import ClickException, NoSuchOption, WrongCommandLine
from resnetctl.errors import UsageError, did_you_mean, printable

# Click's messages and ours; each is tried
_WORDS = (
    (r"^No such command ", "unknown command "),
    (r"^No such option: ", "unknown option "),
    (r"^Got unexpected extra argument(?:s|\(s\))? \((.*)\)$", r"unexpected argument '\1'"),
    (r"^Invalid value for '([^ ]*?)' / '[^ ]*?': ", r"\1: "),
    (r"^Invalid value for '(.*?)': ", r"\1: "),
    (r"^Invalid value for '(.*?)' \(env var: '(.*?)'\): ", r"\1 (\2): "),
    (r"^Missing (argument|option) '(.*)'$", r"missing \1 \2"),
    (r"^Option '(.*)' does not take a value$", r"\1 takes no value"),
    (r"^Option '(.*)' requires an argument$", r"\1 needs a value"),
    (r" is not a valid (int|int range)$", " is not a whole number"),
    (r" is not a valid (float|float range)$", " is not a number"),
    (r" is not in the range x>=(\S+)$", r" is too small: at least \1"),
    (r" is not in the range (\S+)<=x<=(\S+)$", r" is not between \1 and \2"),
    (r"Directory ('.*') is a file$", r"\1 is a file, not a folder"),
    (r"Directory ('.*') is not readable$", r"\1 cannot be read: permission denied"),
)

# other programs' names: our command line
_COMMANDS = {
    "version": "--version",
    "test": "eval",
    "validate": "eval",
    "evaluate": "eval",
    "val": "eval",
    "resume": "train --resume",
    "fit": "train",
    "finetune": "train",
    "run": "train",
    "download": "prepare",
    "index": "prepare",
    "benchmark": "bench",
    "profile": "bench",
    "estimate": "plan",
    "classify": "predict",
    "infer": "predict",
    "inference": "predict",
    "ls": "runs list",
    "list": "runs list",
    "convert": "export",
}
_OPTIONS = {
    "--bs": "--batch-size",
    "--batch": "--batch-size",
    "-b": "--batch-size",
    "--model": "--arch",
    "-a": "--arch",
    "--network": "--arch",
    "--pretrained": "--weights",
    "--learning-rate": "--lr",
    "--epoch": "--epochs",
    "-e": "--epochs",
    "--steps": "--max-steps",
    "--data-dir": "--data",
    "--data-path": "--data",
    "--dataset": "--data",
    "--output": "--runs",
    "--output-dir": "--runs",
    "--config": "--recipe",
    "--preset": "--recipe",
    "--num-workers": "--workers",
    "-j": "--workers",
    "--gpu": "--gpus",
    "--ngpus": "--gpus",
    "--checkpoint": "--resume",
}
_SETTINGS = {
    "--weights": "model.weights=imagenet1k-v2",
    "--wd": "optimizer.weight_decay=…",
    "--image-size": "data.train_size=…",
    "--img-size": "data.train_size=…",
    "--imgsz": "data.train_size=…",
    "--size": "data.train_size=…",
    "--input-size": "data.train_size=…",
    "--opt": "optimizer.name=…",
    "--sched": "schedule.name=…",
    "--amp": "train.precision=auto",
    "--smoothing": "train.label_smoothing=…",
}


def usage_error(error: ClickException, program: str) -> UsageError:
    """`error` of the command line `program …` as one of ours."""
    message = error.message if isinstance(error, NoSuchOption) else error.format_message()
    message, _, guess = " ".join(message.split()).partition(". Did you mean ")
    message = message.rstrip(".")
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    ctx = error.ctx if isinstance(error, WrongCommandLine) else None
    meant = guess.replace("'", "").rstrip("?")
    if isinstance(error, NoSuchOption):
        meant = _option(error.option_name, ctx, program)
    elif (word := re.fullmatch("unknown command '(.*)'", message)) is not None:
        meant = _command(word[1], ctx) or meant
    hint = f"run: {ctx.command_path if ctx else program} --help"
    if meant:
        hint = f"did you mean {meant}? Or {hint}"
    return UsageError(printable(message[:1].lower() + message[1:]), hint=printable(hint))


def _command(word: str, ctx: Any) -> str:
    """Our command line for another program's command `word`; empty if unknown."""
    meant = _COMMANDS.get(word, "")
    known = getattr(ctx.command, "commands", {}) if ctx else {}
    is_there = meant.startswith("--") or meant.partition(" ")[0] in known
    return meant if is_there and ctx and ctx.parent is None else ""


def _option(name: str, ctx: Any, program: str) -> str:
    """The option of the command of `ctx` that `name` probably means; empty if none is close."""
    if name in ("-V", "--Version"):
        return f"{program} --version"
    known = {opt for param in ctx.command.params for opt in param.opts} if ctx else set()
    meant = _OPTIONS.get(name, "")
    if meant in known:
        return meant
    setting = _SETTINGS.get(name) or _SETTINGS.get(meant) or _key(name)
    if setting and "--set" in known:
        return f"--set {setting}"
    close = did_you_mean(name.lstrip("-"), sorted(opt.lstrip("-") for opt in known))
    return f"--{close}" if close and f"--{close}" in known else ""


def _key(name: str) -> str:
    """`schedule.warmup_epochs=…` for `--warmup-epochs`; empty if no recipe key has that name."""
    from resnetctl.recipe import keys

    last = name.lstrip("-").replace("-", "_")
    return next((f"{key}=…" for key in keys() if key.rpartition(".")[2] == last), "")
