import os

import pytest

from resnetctl import hardware


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Write `/proc/self/cgroup` and files below a `/sys/fs/cgroup` of our own."""

    def write(ours: str, files: dict[str, str]) -> None:
        (tmp_path / "self").write_text(ours)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(hardware, "_CGROUPS", tmp_path / "fs")
        monkeypatch.setattr(hardware, "_OUR_CGROUPS", tmp_path / "self")

    return write


def test_quota_of_cgroup_v2_rounds_up(cgroups, monkeypatch):
    monkeypatch.setattr(hardware, "_affinity", lambda: set(range(16)))
    cgroups("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n"})
    assert hardware.usable_cores() == 3


def test_quota_of_cgroup_v1(cgroups, monkeypatch):
    monkeypatch.setattr(hardware, "_affinity", lambda: set(range(16)))
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    cgroups("5:cpu,cpuacct:/docker/seen-from-outside\n0::/\n", files)
    assert hardware.usable_cores() == 4


def test_without_a_quota_affinity_counts(cgroups, monkeypatch):
    monkeypatch.setattr(hardware, "_affinity", lambda: {3, 7})
    cgroups("0::/\n", {"cpu.max": "max 100000\n"})
    assert hardware.usable_cores() == 2
    cgroups("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"})
    assert hardware.usable_cores() == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_affinity_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert hardware.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_memory_limit(cgroups):
    cgroups(
        "0::/x\n",
        {
            "x/memory.max": str(1 << 20),
            "x/memory.current": str(3 << 18),
            "x/memory.stat": "file 9\ninactive_file 262144\n",
        },
    )
    memory = hardware.memory()
    assert memory.limit_bytes == memory.total_bytes == 1 << 20
    assert memory.available_bytes == (1 << 20) - (2 << 18)


def test_no_memory_limit(cgroups):
    cgroups("0::/\n3:memory:/\n", {"memory.max": "max\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"})
    memory = hardware.memory()
    assert memory.limit_bytes is None
    assert memory.total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.available_bytes <= memory.total_bytes


@pytest.mark.parametrize(
    ("cores", "device", "ranks", "workers"),
    [
        (2, "cpu", 1, 1),
        (32, "cpu", 1, 8),
        (1, "cuda", 1, 1),
        (8, "cuda", 1, 8),
        (64, "cuda", 1, 16),
        (64, "cuda", 8, 8),
        (4, "cuda", 8, 1),
    ],
)
def test_default_workers(monkeypatch, cores, device, ranks, workers):
    monkeypatch.setattr(hardware, "usable_cores", lambda: cores)
    assert hardware.default_workers(device, ranks) == workers


def test_space_of_a_path_that_is_not_there(tmp_path):
    space = hardware.space(tmp_path / "a" / "b")
    assert not space.exists
    assert space.path == str(tmp_path / "a" / "b")
    assert 0 < space.free_bytes <= space.total_bytes
    assert hardware.space(tmp_path).exists


@pytest.mark.parametrize(("number", "version"), [(92600, "9.26.0"), (90100, "9.1.0"), (8902, "8.9.2")])
def test_cudnn_version(number, version):
    assert hardware._cudnn_version(number) == version


def test_decoders_are_tried(monkeypatch):
    assert hardware.decoders()["torchcodec"] == ["jpeg", "png", "webp"]
    hardware._tiny_image.cache_clear()
    monkeypatch.setattr(hardware, "_tiny_image", lambda kind: b"no image at all")
    assert hardware.decoders()["torchcodec"] == []
