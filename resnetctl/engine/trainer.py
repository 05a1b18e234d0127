"""The model, the optimizer and one step of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy

from resnetctl.data.loader import Batch
from resnetctl.data.normalise import Normalise
from resnetctl.data.order import key
from resnetctl.errors import CheckpointError, UsageError
from resnetctl.model.resnet import build_model, parameter_groups
from resnetctl.recipe import Recipe

MICRO_BATCH_LIMIT = {"cpu": 64, "cuda": 256}


def choose_micro_batch(recipe: Recipe, device: torch.device, world_size: int) -> int:
    """Images of one forward pass on one device. Raises UsageError where the batches do not divide evenly."""
    share, rest = divmod(recipe.train.global_batch, world_size)
    if rest:
        raise UsageError(
            f"a global batch of {recipe.train.global_batch} does not divide among {world_size} processes",
            hint=f"--batch-size {max(1, share) * world_size}",
        )
    if recipe.train.micro_batch:
        if share % recipe.train.micro_batch:
            raise UsageError(
                f"train.micro_batch {recipe.train.micro_batch} does not divide the {share} images of each process",
                hint="choose a divisor of the batch",
            )
        return recipe.train.micro_batch
    limit = MICRO_BATCH_LIMIT.get(device.type, 64)
    return next(n for n in range(min(share, limit), 0, -1) if share % n == 0)


class Trainer:
    """Holds what a step changes, and nothing else: parameters, buffers, momenta, the loss scale, the loss sums."""

    def __init__(self, recipe: Recipe, classes: int, device: torch.device, precision: torch.dtype) -> None:
        # the CPU generator uses the low 32 bits of a seed only
        torch.manual_seed(key(recipe.train.seed) & 0xFFFFFFFF)
        self.recipe, self.device, self.precision = recipe, device, precision
        self.memory_format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
        self.model = build_model(recipe.model, classes).to(device).to(memory_format=self.memory_format).train()
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.model
        """The model as it is called: itself, or compiled, or wrapped for several processes."""
        self.normalise = Normalise(recipe.data.mean, recipe.data.std, device)
        o = recipe.optimizer
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.model, o.weight_decay, o.no_decay),
            lr=o.lr,
            momentum=o.momentum,
            nesterov=o.nesterov,
            fused=device.type in ("cpu", "cuda"),
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.loss_sum = torch.zeros((), device=device)
        """Of the steps since the loss was last read."""
        self.running_loss = torch.zeros((), device=device)
        """Of the steps since the running loss was last told."""

    def step(self, batches: Iterator[Batch], micro_batches: int, lr: float) -> list[int]:
        """One optimizer step over `micro_batches` batches; the loss stays on the device. Returns unreadable samples."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        unreadable: list[int] = []
        loss_sum = torch.zeros_like(self.loss_sum)
        for _ in range(micro_batches):
            batch = next(batches)
            if len(batch.unreadable):
                unreadable += batch.unreadable.tolist()
            loss = self.loss(batch) / micro_batches
            self.scaler.scale(loss).backward()
            loss_sum += loss.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss_sum
        self.running_loss += loss_sum
        return unreadable

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean training loss of a batch, a scalar float32 on the device."""
        images = self.normalise(batch.images.to(self.device, non_blocking=True))
        labels = batch.labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.forward(images.contiguous(memory_format=self.memory_format))
        return cross_entropy(logits.float(), labels, label_smoothing=self.recipe.train.label_smoothing)

    def take_loss(self, steps: int) -> float:
        """The mean loss of the last `steps` steps; waits for the device, and starts a new sum."""
        loss = float(self.loss_sum) / max(1, steps)
        self.loss_sum.zero_()
        return loss

    def take_running_loss(self, steps: int) -> float:
        """As `take_loss`, for the running loss."""
        loss = float(self.running_loss) / max(1, steps)
        self.running_loss.zero_()
        return loss

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, on the CPU: `model.*`, `optimizer.*`, `progress.*`.

        There is no random state in it: nothing draws from a generator after the initial weights.
        """
        tensors = {f"model.{k}": t for k, t in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for k, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{k}.{name}"] = value
        tensors["progress.loss_sum"] = self.loss_sum
        tensors["progress.running_loss"] = self.running_loss
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            tensors["scaler.scale"] = torch.tensor(state["scale"], dtype=torch.float64)
            tensors["scaler.growth_tracker"] = torch.tensor(state["_growth_tracker"])
        return {k: t.detach().to("cpu") for k, t in tensors.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave. Raises CheckpointError where names or shapes are not this model's."""
        expected = {k: t for k, t in self.tensors().items() if not k.startswith("optimizer.")}
        parameters = dict(self.model.named_parameters())
        for k in tensors:
            if k.startswith("optimizer."):
                _, slot, name = k.split(".", 2)
                if slot == "momentum_buffer" and name in parameters:
                    expected[k] = parameters[name]
        wrong = sorted(
            k
            for k in expected.keys() | tensors.keys()
            if k not in expected or k not in tensors or expected[k].shape != tensors[k].shape
        )
        if wrong:
            raise CheckpointError(
                f"the checkpoint does not fit this model: {len(wrong)} tensors differ, the first is {wrong[0]!r}",
                hint="was it written with another model or number of classes? resnetctl recipe show tells",
            )
        with torch.no_grad():
            for k, t in self.model.state_dict(keep_vars=True).items():
                t.copy_(tensors[f"model.{k}"])
            for k, t in tensors.items():
                if k.startswith("optimizer."):
                    _, slot, name = k.split(".", 2)
                    parameter = parameters[name]
                    self.optimizer.state[parameter][slot] = torch.empty_like(parameter).copy_(t)
            self.loss_sum.copy_(tensors["progress.loss_sum"])
            self.running_loss.copy_(tensors["progress.running_loss"])
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            state["scale"] = float(tensors["scaler.scale"])
            state["_growth_tracker"] = int(tensors["scaler.growth_tracker"])
            self.scaler.load_state_dict(state)
