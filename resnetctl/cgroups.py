"""The limits that cgroups (v1 and v2) set for this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")


def read_file(path: Path) -> str | None:
    """A small file's text, stripped; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _folders(controller: str, v1: bool) -> Iterator[Path]:
    """This process's cgroup and its visible ancestors: the limits of all of them apply."""
    for line in (read_file(_OURS) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if v1 != (controller in controllers.split(",")) or (not v1 and controllers):
            continue
        for mount in (_MOUNT / controllers, _MOUNT / controller) if v1 else (_MOUNT, _MOUNT / "unified"):
            folder = mount / path.lstrip("/")
            yield from (f for f in (folder, *folder.parents) if f.is_relative_to(mount))


def cpu_quota() -> float | None:
    """Cores' worth of time that this process's cgroup may use; None without a limit."""
    pairs = [(read_file(f / "cpu.max") or "").partition(" ")[::2] for f in _folders("cpu", v1=False)]
    pairs += [
        (read_file(f / "cpu.cfs_quota_us") or "", read_file(f / "cpu.cfs_period_us") or "")
        for f in _folders("cpu", v1=True)
    ]
    known = [(quota, period) for quota, period in pairs if quota.isdecimal() and period.isdecimal() and int(period)]
    return min((int(quota) / int(period) for quota, period in known), default=None)


def memory_limit() -> tuple[int | None, int]:
    """The tightest memory limit in bytes (None: no limit), and the usage under it without reclaimable caches."""
    limit, used = None, 0
    places = [(f, "memory.max", "memory.current", "inactive_file") for f in _folders("memory", v1=False)]
    places += [
        (f, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for f in _folders("memory", v1=True)
    ]
    for folder, limit_name, used_name, cache_name in places:
        value = read_file(folder / limit_name) or "max"
        if value.isdecimal() and int(value) < 1 << 60 and (limit is None or int(value) < limit):
            limit = int(value)
            cache = re.search(rf"^{cache_name} (\d+)$", read_file(folder / "memory.stat") or "", re.MULTILINE)
            in_use = read_file(folder / used_name) or "0"
            used = int(in_use) - int(cache[1] if cache else 0) if in_use.isdecimal() else 0
    return limit, max(0, used)
