"""What the process of a run is told of its surroundings: no part in somebody else's launch, its share of the cores, and
where several runs go at once on several GPUs, one of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tunesmith.cores import cores

LAUNCH: Final = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
LAUNCH_PREFIXES: Final = ("TORCHELASTIC_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")
"""What torchrun, Kubeflow and mpirun tell a process of its place among others; torch and accelerate read it."""


def unlaunched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a launcher told the caller. A run that is started from there is a process of its
    own; two at once would else wait at, or bind, the one port of that launch."""
    return {name: value for name, value in environment.items()
            if name not in LAUNCH and not name.startswith(LAUNCH_PREFIXES)}  # fmt: skip


def threads_for(jobs: int) -> dict[str, str]:
    """What a process is told of threads when `jobs` of them share the cores that this one may use; a setting of the
    person's stays."""
    if jobs < 2 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}


def gpus_for(jobs: int) -> tuple[str, ...]:
    """The GPUs that `jobs` runs at a time are spread over, as CUDA_VISIBLE_DEVICES names them; none for a single run,
    which takes the first anyway, or where there are fewer than two."""
    if jobs < 2:
        return ()
    import torch

    count = torch.cuda.device_count()  # of those that CUDA_VISIBLE_DEVICES leaves
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if named is None else [name.strip() for name in named.split(",")]
    return tuple(names[:count]) if count > 1 else ()


def free_gpu(gpus: Sequence[str], taken: Iterable[str]) -> str:
    """The GPU that the fewest of the runs under way have taken, the first of equals; empty where there are none to
    spread over."""
    runs = Counter(taken)
    return min(gpus, key=lambda gpu: runs[gpu], default="")
