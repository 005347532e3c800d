"""How many processor cores there are for this process."""

from __future__ import annotations

import os


def cores() -> int:
    """CPU cores that this process may use: those that its affinity leaves it (`taskset`, Slurm, a container's cpuset),
    else, where the system has no such thing, all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
