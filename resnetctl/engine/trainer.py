"""The model, the optimizer and one step of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.mix import Mix, draw_mix
from resnetctl.data.batches.order import DEVICE, key
from resnetctl.data.batches.resolution import sizes_of_run
from resnetctl.distributed.group import ALONE, Group
from resnetctl.distributed.sync_norm import synchronise_norms
from resnetctl.engine.device import keep_freed_memory, set_deterministic
from resnetctl.engine.inference import Compiled, Model, in_use
from resnetctl.engine.inputs import network_input
from resnetctl.engine.loss import LossOf
from resnetctl.engine.normalise import Normalise
from resnetctl.engine.optimizer import build_optimizer, optimizer_tensors, prepare_step
from resnetctl.errors import CheckpointError, printable
from resnetctl.model.ema import MovingAverage
from resnetctl.model.resnet import HEAD, build_model
from resnetctl.recipe import Recipe


class Trainer:
    """Everything that a step changes: parameters, buffers, momenta, the loss scale, the loss sums."""

    def __init__(
        self, recipe: Recipe, classes: int, device: torch.device, precision: torch.dtype, group: Group = ALONE
    ) -> None:
        set_deterministic(recipe.train.deterministic)
        keep_freed_memory(device)
        # the CPU generator uses only the low 32 bits of a seed
        torch.manual_seed(key(recipe.train.seed) & 0xFFFFFFFF)
        self.recipe, self.classes, self.device, self.precision, self.group = recipe, classes, device, precision, group
        layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
        model = build_model(recipe.model, classes)
        if recipe.train.sync_bn and group.size > 1:
            model = synchronise_norms(model, device)
        self.model = model.to(device).to(memory_format=layout).train()
        self.normalise = Normalise(recipe.data.mean, recipe.data.std, device)
        self._plain = LossOf(self.model, self.normalise, recipe.train)
        self._parallel: DistributedDataParallel | None = None
        self.optimizer = build_optimizer(self.model, recipe, device)
        self.average = MovingAverage(self.model) if recipe.ema.every_steps else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.loss_sum = torch.zeros((), device=device)
        """Of the steps since the loss was last read."""
        self.running_loss = torch.zeros((), device=device)
        """Of the steps since the running loss was last reported."""
        self.grad_norm: torch.Tensor | None = None
        """Norm of the last step's gradient before clipping, if the recipe clips it."""
        self.is_compiled = False
        self._evaluated: list[Compiled] = []
        """The model and its average, compiled for evaluation."""
        self._frozen = False
        self._set_norm_mode()

    def step(self, number: int, batches: Iterator[Batch], micro_batches: int, lr: float) -> list[int]:
        """Optimizer step `number` (from 0) over `micro_batches` batches; returns the unreadable samples.

        The loss stays on the device.
        """
        prepare_step(self.optimizer, number, lr)
        unreadable: list[int] = []
        loss_sum = torch.zeros_like(self.loss_sum)
        for n in range(micro_batches):
            batch = next(batches)
            if len(batch.unreadable):
                unreadable += batch.unreadable.tolist()
            self._seed_device(number, n)
            mix = draw_mix(self.recipe.train, number, self.group.rank * micro_batches + n, batch.images.shape[-1])
            with self._together(n == micro_batches - 1):
                loss = self.loss(batch, mix) / micro_batches
                self.scaler.scale(loss).backward()
            loss_sum += loss.detach()
        self._clip_gradient()
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss_sum
        self.running_loss += loss_sum
        return unreadable

    def _seed_device(self, number: int, part: int) -> None:
        """Seed the device's generator by the step alone, so that a resumed run draws the same numbers."""
        if self.recipe.model.drop_path:
            rank = self.group.rank
            torch.manual_seed(key(self.recipe.train.seed, DEVICE, number, part, rank) & 0xFFFFFFFF)

    def _clip_gradient(self) -> None:
        longest = self.recipe.train.clip_grad_norm
        if longest:
            self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), longest)

    def update_average(self, decay: float) -> None:
        """Update the moving average; `decay` 0 copies the model."""
        if self.average is not None:
            self.average.update(self.model, decay)

    def freeze(self, frozen: bool) -> bool:
        """Train only the last layer, or everything; returns whether that is a change."""
        if frozen == self._frozen:
            return False
        self._frozen = frozen
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not frozen or name.startswith(f"{HEAD}."))
        self._set_norm_mode()
        return True

    def _set_norm_mode(self) -> None:
        """Frozen batch norm uses its statistics and keeps them unchanged."""
        if self._frozen or self.recipe.train.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train_mode(self) -> None:
        """Set the model's mode for training, after an evaluation or a change of frozen parameters."""
        self.model.train()
        self._set_norm_mode()

    def _together(self, last: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks only in a step's last micro-batch."""
        return nullcontext() if last or self._parallel is None else self._parallel.no_sync()

    def spread(self) -> None:
        """Train together with the other ranks from here on, from the first one's parameters and buffers.

        `rehearse` must follow.
        """
        if self.group.size > 1:
            self._parallel = self.group.wrap_ddp(self._plain, self.device)

    def rehearse(self, micro_batch: int, size: int, passes: int = 1) -> None:
        """Run a step of `size` pixels without the optimizer, leaving every tensor unchanged.

        Insufficient memory or a failing compiler then shows now, not when a run reaches that size; a second pass has
        the first one's gradients in memory. DistributedDataParallel also orders its gradient buckets by the first
        backward, so otherwise the first step after a start or resume would sum in a different order from the same step
        in the middle of a run, and its bits would differ.
        """
        buffers = list(self.model.buffers())
        before = [b.clone() for b in buffers]
        images = torch.zeros((micro_batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        labels, unreadable = torch.zeros(micro_batch, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        erased = torch.zeros((micro_batch if self.recipe.data.random_erase else 0, 4), dtype=torch.int64)
        passes = min(passes, 2)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for n in range(passes):
                mix = draw_mix(self.recipe.train, 0, n, size)
                with self._together(n == passes - 1):
                    self.loss(Batch(images, labels, unreadable, erased), mix).backward()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)

    def loss(self, batch: Batch, mix: Mix | None = None) -> torch.Tensor:
        """The mean training loss of a batch, mixed as `mix` says, a scalar float32 on the device."""
        batch = self._on_device(batch)
        images, targets = batch.images, batch.labels
        if len(batch.erased) or mix:  # plain normalisation is left to the compiled part
            images, targets = network_input(batch, self.normalise, self.classes, mix)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            loss: torch.Tensor = (self._parallel or self._plain)(images, targets)
        return loss

    def _on_device(self, batch: Batch) -> Batch:
        """The batch, its images still uint8; on CUDA copied while the device computes."""
        if self._copies is None:
            return Batch(*(tensor.to(self.device) for tensor in batch))
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            copied = Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        compute.wait_stream(self._copies)
        for tensor in copied:
            tensor.record_stream(compute)  # else its memory could be reused while the step still reads it
        return copied

    def compile(self) -> None:
        """Use a compiled model from here on, compiled for each resolution of the run, with fixed shapes."""
        graphs = len(sizes_of_run(self.recipe.data, self.recipe.train))
        if self.recipe.train.freeze != "nothing":
            graphs *= 2
        config = torch._dynamo.config  # beyond its limit torch silently continues without compiling
        config.recompile_limit = max(config.recompile_limit, graphs + 8)  # and those of evaluation
        self._plain.compile(dynamic=False)
        self.is_compiled = True

    def take(self, losses: torch.Tensor, steps: int) -> float:
        """The mean over the last `steps` steps and all ranks of `loss_sum` or `running_loss`, which starts anew.

        Waits for the device.
        """
        mean = float(self.group.all_sum(losses)) / self.group.size / max(1, steps)
        losses.zero_()
        return mean

    def in_use(self, compiled_batch: int = 0) -> list[Model]:
        """The model for evaluation, followed by its moving average if there is one.

        Compiled, once for all calls, if `compiled_batch` (images per batch) is not 0.
        """
        networks = [self.model, *([self.average.network] if self.average else [])]
        if compiled_batch and not self._evaluated:
            self._evaluated = [
                Compiled(network=torch.compile(network, dynamic=False), batch=compiled_batch)  # type: ignore[arg-type]
                for network in networks
            ]
        compiled = self._evaluated if compiled_batch else [None] * len(networks)
        return [
            in_use(network, self.recipe, self.device, self.precision, how)
            for network, how in zip(networks, compiled, strict=True)
        ]

    def share_buffers(self) -> None:
        """Take the first rank's running means and variances, which are the ones used and saved."""
        self.group.broadcast_in_place(list(self.model.buffers()))
        if self.average is not None:
            self.group.broadcast_in_place(list(self.average.network.buffers()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, not copied: `model.*`, `ema.*`, `optimizer.*`, `progress.*`.

        `progress.*` are `[ranks] float32`, one sum for each rank, so every rank must call this. There is no random
        state: nothing draws from a persistent generator after the initial weights.
        """
        sums = [float(self.loss_sum), float(self.running_loss)]
        loss, running = zip(*self.group.all_gather(sums), strict=True)
        progress = {"progress.loss_sum": torch.tensor(loss), "progress.running_loss": torch.tensor(running)}
        return {**self._state(), **progress}

    def _state(self) -> dict[str, torch.Tensor]:
        """The tensors themselves, without the loss scaler's numbers."""
        tensors = {f"model.{k}": t for k, t in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"ema.{k}": t for k, t in self.average.network.state_dict().items()}
        tensors |= {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer, self.model).items()}
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            tensors["scaler.scale"] = torch.tensor(state["scale"], dtype=torch.float64)
            tensors["scaler.growth_tracker"] = torch.tensor(state["_growth_tracker"])
        return {k: t.detach() for k, t in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `tensors`. Raises CheckpointError if names or shapes are not this model's."""
        own = self._state()
        expected = dict(own)
        for k in ("progress.loss_sum", "progress.running_loss"):
            ranks = tensors[k].numel() if k in tensors and tensors[k].dim() == 1 else 1
            expected[k] = torch.zeros(max(1, ranks))
        _check_fit(expected, tensors)
        with torch.no_grad():
            for k, tensor in own.items():
                tensor.copy_(tensors[k])
            self.loss_sum.copy_(self._own(tensors["progress.loss_sum"]))
            self.running_loss.copy_(self._own(tensors["progress.running_loss"]))
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            state["scale"] = float(tensors["scaler.scale"])
            state["_growth_tracker"] = int(tensors["scaler.growth_tracker"])
            self.scaler.load_state_dict(state)

    def _own(self, sums: torch.Tensor) -> torch.Tensor:
        """This rank's sum, or the mean of all if the number of ranks differs."""
        return sums[self.group.rank] if len(sums) == self.group.size else sums.mean()


def _check_fit(expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    wrong = sorted(
        k
        for k in expected.keys() | tensors.keys()
        if k not in expected
        or k not in tensors
        or (expected[k].shape, expected[k].dtype) != (tensors[k].shape, tensors[k].dtype)
    )
    if wrong:
        raise CheckpointError(
            f"the checkpoint does not fit this model: {len(wrong)} tensors differ, such as {printable(wrong[0])}",
            hint="was it written with another model or number of classes? see resnetctl recipe show",
        )
