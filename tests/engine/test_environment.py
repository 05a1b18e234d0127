"""What a checkpoint records of the machine, and what a resume says of another one."""

import torch

from resnetctl.distributed.group import ALONE
from resnetctl.engine.environment import changes, environment


def recorded(*, compiled: bool) -> dict[str, str | int]:
    return environment(torch.device("cpu"), torch.bfloat16, compiled, 64, ALONE, "pillow")


def test_a_compiled_step_has_other_bits_and_is_told():
    assert changes(recorded(compiled=False), recorded(compiled=True)) == ["compiled (no → yes)"]
    assert changes(recorded(compiled=True), recorded(compiled=True)) == []


def test_what_an_older_checkpoint_does_not_record_is_no_change():
    now = recorded(compiled=True)
    assert changes({k: v for k, v in now.items() if k != "compiled"}, now) == []
