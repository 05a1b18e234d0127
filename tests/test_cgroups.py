"""Limits of cgroups, v1 and v2, as a container sees them."""

import os

import pytest

from resnetctl import cgroups, hardware


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """Write `/proc/self/cgroup` and files below a `/sys/fs/cgroup` of our own."""

    def write(ours: str, files: dict[str, str]) -> None:
        (tmp_path / "self").write_text(ours)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(cgroups, "_MOUNT", tmp_path / "fs")
        monkeypatch.setattr(cgroups, "_OURS", tmp_path / "self")

    return write


def test_the_tightest_quota_of_cgroup_v2_counts(limits):
    limits("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n"})
    assert cgroups.cpu_quota() == 2.5


def test_quota_of_cgroup_v1(limits):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    limits("5:cpu,cpuacct:/docker/seen-from-outside\n0::/\n", files)
    assert cgroups.cpu_quota() == 4


def test_no_quota(limits):
    limits("0::/\n", {"cpu.max": "max 100000\n"})
    assert cgroups.cpu_quota() is None
    limits("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"})
    assert cgroups.cpu_quota() is None


def test_memory_limit(limits):
    limits(
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


def test_no_memory_limit(limits):
    limits("0::/\n3:memory:/\n", {"memory.max": "max\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"})
    memory = hardware.memory()
    assert memory.limit_bytes is None
    assert memory.total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.available_bytes <= memory.total_bytes
