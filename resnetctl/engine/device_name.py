"""Names of devices, checked without torch."""

from __future__ import annotations

from resnetctl.errors import UsageError, did_you_mean, printable

KINDS = ("auto", "cuda", "xpu", "mps", "cpu")  # ROCm's devices are called cuda in torch


def split_name(name: str) -> tuple[str, int | None]:
    """The kind and the number of a device such as `cuda:1`. Raises UsageError for another form."""
    kind, colon, number = name.partition(":")
    if kind not in KINDS or (colon and not (number.isascii() and number.isdecimal())):
        close = "cuda" if kind == "gpu" else did_you_mean(kind, KINDS)
        raise UsageError(
            f"unknown device {printable(name)!r}" + (f": did you mean {close}?" if close else ""),
            hint=f"one of {', '.join(KINDS)}, with a number if there are several (cuda:1)",
        )
    return kind, int(number) if colon else None
