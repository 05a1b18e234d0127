"""Which of torch's operations a piece of code calls."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """While inside, counts operations by `namespace::name`, and keeps the arguments of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func.name().partition(".")[0], args))
        return func(*args, **(kwargs or {}))

    def counts(self, namespace: str = "") -> Counter[str]:
        """How often each was called."""
        return Counter(name for name, _ in self.calls if name.startswith(namespace))

    def indices(self) -> list[torch.Tensor]:
        """The tensors by which others were indexed."""
        indexed = [
            args[1] for name, args in self.calls if name in ("aten::index", "aten::index_put", "aten::index_put_")
        ]
        return [index for places in indexed for index in places if index is not None]
