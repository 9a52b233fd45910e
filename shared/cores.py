"""How many cores this process may use: in a container often fewer than the machine has."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
UNLIMITED = ("max", "-1")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Return how many cores this process may use, at least 1.

    `os.cpu_count` names the machine's. A container with a limit (`docker run --cpus`, Kubernetes'
    `limits.cpu`) that starts a thread for each of those is stopped for most of every period. Parts
    of a core count as a whole one.

    Sources: sched_setaffinity(2); the kernel's cgroup-v2.rst (`cpu.max`) and, for version 1,
    sched-bwc.rst (`cpu.cfs_quota_us`).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS knows no affinity, and no cgroups
        cores = os.cpu_count() or 1
    for quota, period in _limits(cgroups, own):
        cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def _limits(cgroups: Path, own: Path) -> list[tuple[int, int]]:
    """Return the quotas and periods, in microseconds, of this process's group and those above."""
    pairs = []
    for group in _groups(cgroups, own):
        try:
            pairs.append((group / "cpu.max").read_text().split())
        except OSError:  # the root has no limit
            continue
    first = cgroups / "cpu" / "cpu.cfs_quota_us"
    if first.is_file():
        pairs.append([first.read_text(), first.with_name("cpu.cfs_period_us").read_text()])
    return [(int(quota), int(period)) for quota, period in pairs if quota.strip() not in UNLIMITED]


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of this process's cgroup (version 2) and those above it."""
    lines = own.read_text().splitlines() if own.is_file() else []
    name = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = cgroups / name.strip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(cgroups))]
