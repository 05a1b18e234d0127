import os

import pytest

from resnetctl import hardware


@pytest.fixture
def cores(monkeypatch):
    """Let this process run on so many cores, under a quota."""

    def allow(count: int, quota: float | None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)
        monkeypatch.setattr(hardware, "cpu_quota", lambda: quota)

    return allow


@pytest.mark.parametrize(("count", "quota", "usable"), [(16, 2.5, 3), (16, None, 16), (2, 4.0, 2), (16, 0.1, 1)])
def test_usable_cores_follow_from_affinity_and_quota(cores, count, quota, usable):
    cores(count, quota)
    assert hardware.usable_cores() == usable


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_affinity_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert hardware.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("device", "cores", "workers"),
    [("cpu", 2, 1), ("cpu", 32, 8), ("cuda", 1, 1), ("cuda", 8, 8), ("cuda", 64, 16)],
)
def test_default_workers(device, cores, workers):
    assert hardware.default_workers(device, cores) == workers


def rank(cores: range, quota: int | None = None, machine: str = "a") -> hardware.Usable:
    return hardware.Usable(machine=machine, cores=frozenset(cores), quota=quota)


NODE = range(64)
NUMA = [range(0, 32)] * 4 + [range(32, 64)] * 4
TASKS = [range(12 * n, 12 * n + 12) for n in range(8)]


@pytest.mark.parametrize(
    ("ranks", "workers"),
    [
        pytest.param([rank(NODE)], [16], id="64 cores, 1 GPU"),
        pytest.param([rank(NODE)] * 8, [8] * 8, id="64 cores, 8 GPUs, under torchrun or --gpus"),
        pytest.param([rank(mask) for mask in NUMA], [8] * 8, id="64 cores, 8 GPUs, bound to two NUMA nodes"),
        pytest.param([rank(mask) for mask in TASKS], [12] * 8, id="srun --cpus-per-task 12"),
        pytest.param([rank(range(12))] * 8, [1] * 8, id="one task's 12 cores for 8 ranks of torchrun"),
        pytest.param([rank(range(4))] * 8, [1] * 8, id="fewer cores than ranks"),
        pytest.param([rank(NODE), rank(NODE, machine="b")], [16, 16], id="one GPU on each of two machines"),
        pytest.param([rank(range(8)), rank(range(4))], [6, 2], id="one's cores among the other's"),
        pytest.param([rank(NODE, quota=16)] * 8, [2] * 8, id="a container of 16 cores on 64, 8 GPUs"),
        pytest.param([rank(NODE, quota=16)], [16], id="a container of 16 cores on 64, 1 GPU"),
    ],
)
def test_ranks_divide_the_cores_that_they_share(ranks, workers):
    assert [hardware.default_workers("cuda", hardware.share_of(rank, ranks)) for rank in ranks] == workers


def test_ranks_of_one_machine_know_each_other():
    assert hardware.usable() == hardware.usable()
    assert hardware.usable().machine


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
