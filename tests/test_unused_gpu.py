from __future__ import annotations

from pathlib import Path

import pytest

from resnetctl.container import in_container
from resnetctl.unused_gpu import unused_gpu


def bus(folder: Path, **devices: tuple[str, str]) -> Path:
    """A folder like the kernel's list of PCI devices, each with its vendor and class."""
    for name, (vendor, kind) in devices.items():
        (folder / "pci" / name).mkdir(parents=True)
        (folder / "pci" / name / "vendor").write_text(f"{vendor}\n")
        (folder / "pci" / name / "class").write_text(f"{kind}\n")
    return folder / "pci"


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return bus(tmp_path, gpu=("0x10de", "0x030200"))


def test_neither_another_vendor_nor_nvidias_sound_device_is_a_gpu(tmp_path: Path) -> None:
    assert unused_gpu("13.0", pci=bus(tmp_path, amd=("0x1002", "0x030000"), sound=("0x10de", "0x040300"))) is None


def test_a_torch_for_the_cpu_is_named(gpu: Path) -> None:
    assert "this torch is built for the CPU" in (unused_gpu(None, pci=gpu) or "")


def test_the_variable_that_hides_it_is_named(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES= hides it" in (unused_gpu("13.0", pci=gpu) or "")


def test_a_driver_that_is_not_loaded_is_named(gpu: Path, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert "driver is not loaded" in (unused_gpu("13.0", pci=gpu, dev=tmp_path, driver=tmp_path / "version") or "")


def test_a_driver_that_is_there_may_be_too_old(gpu: Path, tmp_path: Path) -> None:
    for name in "nvidiactl", "version":
        (tmp_path / name).touch()
    text = unused_gpu("13.0", pci=gpu, dev=tmp_path, driver=tmp_path / "version")
    assert "too old for CUDA 13.0" in (text or "")


@pytest.mark.skipif(not in_container(), reason="this is no container")
def test_a_container_without_gpus_is_named(gpu: Path, tmp_path: Path) -> None:
    assert "--gpus all" in (unused_gpu("13.0", pci=gpu, dev=tmp_path, driver=tmp_path / "version") or "")
