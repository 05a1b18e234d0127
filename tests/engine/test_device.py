"""Devices and arithmetic: chosen where they exist, named where they do not."""

import hashlib
import importlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.engine.device import (
    PRECISION_NAMES,
    available,
    choose_device,
    choose_precision,
    compile_or_why_not,
    keep_freed_memory,
    limit_compile_processes,
    local_ranks,
    out_of_memory,
    rank_device,
    set_deterministic,
    synchronise,
)
from resnetctl.engine.device_name import KINDS
from resnetctl.engine.trainer import Trainer
from resnetctl.errors import ResnetctlError, UsageError
from resnetctl.recipe import Override, load_recipe
from tests.process import call

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MISSING = [kind for kind in ("cuda", "xpu", "mps") if kind not in available()]


def test_the_cpu_is_always_there_and_the_last_choice():
    assert available()[-1] == "cpu"
    assert choose_device("cpu") == CPU
    assert choose_device("cpu:0").type == "cpu"
    assert choose_device("auto").type == available()[0]
    synchronise(choose_device("auto"))


@pytest.mark.parametrize(
    "name", ["", "cpu:", "cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "cuda:0:0", "gpu", "CPU", "cuda:٣"]
)
def test_what_is_no_device_is_named(name):
    with pytest.raises(UsageError, match="unknown device") as caught:
        choose_device(name)
    assert all(kind in caught.value.hint for kind in KINDS)


def test_a_misspelt_device_gets_a_guess():
    with pytest.raises(UsageError, match="did you mean cuda"):
        choose_device("cud")


@pytest.mark.parametrize("kind", MISSING)
def test_a_device_that_this_machine_has_not(kind):
    for name in (kind, f"{kind}:3"):
        with pytest.raises(UsageError, match=f"torch finds no {kind} device") as caught:
            choose_device(name)
        assert "--device auto" in caught.value.hint


@pytest.mark.parametrize("name", ["cpu:1", "cpu:00001", *[f"{k}:{10**6}" for k in available() if k != "mps"]])
def test_a_number_too_high(name):
    with pytest.raises(UsageError, match="this machine has"):
        choose_device(name)


def several(patch: pytest.MonkeyPatch, count: int) -> list[torch.device]:
    """Let torch find so many CUDA devices; the list holds those that become the current one, or are waited for."""
    seen: list[torch.device] = []
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: count)
    patch.setattr(torch.cuda, "set_device", seen.append)
    patch.setattr(torch.cuda, "synchronize", seen.append)
    return seen


def test_a_device_by_its_number_becomes_the_current_one(monkeypatch):
    current = several(monkeypatch, 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]


def test_synchronising_waits_for_the_device_in_use(monkeypatch):
    waited = several(monkeypatch, 2)
    synchronise(torch.device("cuda", 1))
    assert waited == [torch.device("cuda", 1)]


def test_ranks_share_the_cpu_alone():
    assert rank_device("cpu", 3, 4) == CPU
    assert rank_device("cpu", 0, 1) == CPU
    with pytest.raises(UsageError, match="several ranks cannot share"):
        rank_device("cpu:0", 1, 2)


@pytest.mark.parametrize("level", ["default", "avx2"])
def test_a_lower_instruction_set_that_is_asked_for_has_no_fast_bf16(level):
    program = (
        "import torch; from resnetctl.engine.device import choose_precision; "
        "print(choose_precision('auto', torch.device('cpu')))"
    )
    env = os.environ | {"ATEN_CPU_CAPABILITY": level}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "torch.float32\n"


def test_precisions():
    assert choose_precision("fp32", CPU) is torch.float32
    assert choose_precision("bf16", CPU) is torch.bfloat16
    assert choose_precision("fp16", torch.device("cuda")) is torch.float16
    assert choose_precision("auto", CPU) in (torch.bfloat16, torch.float32)
    assert choose_precision("auto", torch.device("mps")) is torch.float32
    with pytest.raises(UsageError, match="fp16 needs a CUDA device") as caught:
        choose_precision("fp16", CPU)
    assert "train.precision=bf16" in caught.value.hint
    assert set(PRECISION_NAMES.values()) == {"bf16", "fp16", "fp32"}


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_processes_on_the_cpu_are_not_started_for_another_device(device):
    assert local_ranks(None, 2, "auto") == local_ranks(None, 2, "cpu") == 2
    with pytest.raises(UsageError, match=f"--cpu-procs cannot be combined with --device {device}"):
        local_ranks(None, 2, device)


def test_automatic_bf16_on_the_cpu_follows_the_hardware():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lowered = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")  # ATEN_CPU_CAPABILITY may be set
    fast = ("avx512_bf16" in flags or "amx_tile" in flags) and not lowered
    assert (choose_precision("auto", CPU) is torch.bfloat16) == fast


class Machine:
    """Whose programs and headers are those that a test puts there."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name in ("CC", "CXX"):
            patch.delenv(name, raising=False)
        patch.setenv("PATH", str(folder))
        patch.setattr(sysconfig, "get_path", lambda name: str(folder))
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))

    def has(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch(0o755)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_without_being_asked_only_cuda_compiles(machine):
    assert compile_or_why_not("off", CUDA) == ""
    assert compile_or_why_not("auto", CPU) == ""
    machine.has("gcc", "Python.h")
    assert compile_or_why_not("auto", CUDA) is None


def test_cuda_needs_a_c_compiler(machine):
    machine.has("g++", "Python.h")
    assert compile_or_why_not("auto", CUDA) == (
        "torch.compile is off: there is no C compiler; install gcc (Debian: apt-get install gcc libc6-dev) for a "
        "faster step"
    )
    with pytest.raises(UsageError, match=r"train\.compile is on, but there is no C compiler") as caught:
        compile_or_why_not("on", CUDA)
    assert "train.compile=off" in caught.value.hint
    machine.has("clang")
    assert compile_or_why_not("on", CUDA) is None


def test_the_cpu_needs_a_c_plus_plus_compiler(machine):
    machine.has("gcc", "Python.h")
    with pytest.raises(UsageError, match=r"there is no C\+\+ compiler") as caught:
        compile_or_why_not("on", CPU)
    assert "g++" in caught.value.hint
    machine.has("clang++" if sys.platform == "darwin" else "g++")
    assert compile_or_why_not("on", CPU) is None


@pytest.mark.parametrize(("device", "variable"), [(CPU, "CXX"), (CUDA, "CC")])
def test_a_compiler_that_the_environment_names(device, variable, machine, monkeypatch):
    machine.has("gcc", "g++", "clang++", "Python.h")
    monkeypatch.setenv(variable, "mine -m64")
    with pytest.raises(UsageError, match="compiler"):
        compile_or_why_not("on", device)
    machine.has("mine")
    assert compile_or_why_not("on", device) is None


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_both_need_pythons_headers(device, machine):
    machine.has("gcc", "g++", "clang++")
    with pytest.raises(UsageError, match=r"Python\.h is missing") as caught:
        compile_or_why_not("on", device)
    assert "python3-dev" in caught.value.hint


def test_a_gpu_too_old_for_triton(machine, monkeypatch):
    machine.has("gcc", "Python.h")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert "capability 7.0, and this GPU has 6.1" in compile_or_why_not("auto", CUDA)


def test_synchronised_batch_norm_is_not_compiled(machine):
    machine.has("gcc", "Python.h")
    assert "train.sync_bn" in compile_or_why_not("auto", CUDA, sync_bn=True)
    with pytest.raises(UsageError, match=r"train\.sync_bn") as caught:
        compile_or_why_not("on", CUDA, sync_bn=True)
    assert "train.sync_bn=false" in caught.value.hint


@pytest.mark.skipif(not shutil.which("gcc") or sys.platform != "linux", reason="gcc is what is there")
def test_gcc_alone_is_an_error_before_the_run_and_no_traceback(cli, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gcc").symlink_to(shutil.which("gcc"))
    cli("prepare", "--source", "sample")
    done = cli("train", "--device", "cpu", "--set", "train.compile=on", env={"PATH": str(folder), "CXX": None})
    assert done.returncode == 2
    assert "error: train.compile is on, but there is no C++ compiler" in done.stderr
    assert not list((tmp_path / "runs").glob("*/checkpoints"))


def test_processes_that_compile_follow_the_cores_of_the_rank(monkeypatch):
    config = types.SimpleNamespace(compile_threads=32)
    monkeypatch.setitem(sys.modules, "torch._inductor.config", config)
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "3")
    limit_compile_processes(8)
    assert (os.environ["TORCHINDUCTOR_COMPILE_THREADS"], config.compile_threads) == ("3", 32)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    limit_compile_processes(8)
    assert (os.environ["TORCHINDUCTOR_COMPILE_THREADS"], config.compile_threads) == ("8", 8)


def test_the_limit_is_what_inductor_takes():
    """Before its settings are loaded, and after."""
    assert [call(print_compile_threads, when).stdout.split() for when in ("before", "after")] == [["5"], ["5"]]


def print_compile_threads(when: str) -> None:
    if when == "after":
        importlib.import_module("torch._inductor.config")
    os.environ.pop("TORCHINDUCTOR_COMPILE_THREADS", None)
    limit_compile_processes(5)
    from torch._inductor import async_compile

    print(async_compile.get_compile_threads())


def test_a_real_failed_allocation_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    error = out_of_memory(caught.value, 64, 256, 224)
    assert isinstance(error, ResnetctlError)
    assert "64 images of 224 pixels" in error.message


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError("x"), OSError(28, os.strerror(28))])
def test_other_errors_are_not_taken_for_it(error):
    assert out_of_memory(error, 64, 256, 224) is None


@pytest.mark.parametrize(("micro", "share", "fits"), [(64, 256, 32), (48, 96, 24), (45, 90, 18), (7, 7, 1), (2, 2, 1)])
def test_the_hint_names_a_batch_that_divides(micro, share, fits):
    assert share % fits == 0
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        hint = out_of_memory(error, micro, share, 224).hint
        assert f"train.micro_batch={fits} " in hint
        assert "--resume" in hint
    assert "smaller model" in out_of_memory(MemoryError(), 1, share, 224).hint


def page_faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def count_page_faults() -> None:
    before = page_faults()
    keep_freed_memory(CPU)
    print(before, min(page_faults() for _ in range(8)))  # the first ones still ask for more


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_a_step_on_the_cpu_uses_the_memory_of_the_step_before():
    """In a process of its own: the setting stays."""
    before, after = map(int, call(count_page_faults).stdout.split())
    assert after < before / 10


@pytest.fixture
def as_before() -> Iterator[None]:
    yield
    set_deterministic(False)
    torch.backends.cudnn.benchmark = False
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def trainer(*wishes: Override) -> Trainer:
    recipe = load_recipe("small", overrides=[Override("model.arch", "resnet18", "test"), *wishes])
    return Trainer(recipe, 2, CPU, torch.float32)


@pytest.mark.usefixtures("as_before")
def test_deterministic_algorithms_are_set_for_a_recipe_that_asks_and_taken_back():
    trainer(Override("train.deterministic", True, "test"))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    trainer()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


@pytest.mark.usefixtures("as_before")
def test_cudnn_chooses_the_fastest_algorithm_unless_the_bits_must_be_the_same():
    trainer()
    assert torch.backends.cudnn.benchmark
    trainer(Override("train.deterministic", True, "test"))
    assert not torch.backends.cudnn.benchmark
    trainer()
    assert torch.backends.cudnn.benchmark


def twenty_steps() -> None:
    """Print a hash of what twenty deterministic steps on a GPU leave."""
    recipe = load_recipe("small", overrides=[Override("train.deterministic", True, "test")])
    trainer = Trainer(recipe, 10, torch.device("cuda"), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8, generator=generator)
    batch = Batch(images, torch.randint(0, 10, (64,), generator=generator), torch.zeros(0, dtype=torch.int64))
    for _ in range(20):
        trainer.step(0, iter([batch]), 1, 0.1)
    digest = hashlib.sha256()
    for tensor in trainer.tensors().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    print(digest.hexdigest())


@pytest.mark.gpu
def test_steps_on_a_gpu_have_the_same_bits_where_the_recipe_asks_for_it():
    """A step that has no deterministic algorithm would raise RuntimeError."""
    first, second = call(twenty_steps), call(twenty_steps)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
