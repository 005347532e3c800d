"""Decoded pictures on disk, and batches that workers make."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.data.batches import TrainBatches
from tunesmith.data.prefetch import Prefetched
from tunesmith.data.stored import keep_pictures
from tunesmith.types import Batch, Example


def encode(rows: Sequence[Example]) -> list[dict[str, Any]]:
    made = []
    for row in rows:
        number = int(row.inputs["image"])
        made.append({"picture": np.full((16 + number, 32, 3), number, dtype=np.uint8), "scale": number / 2})
    return made


EXAMPLES = [Example({"image": str(n)}) for n in range(9)]


@pytest.mark.parametrize("limit", [1 << 20, 5000, 0])
def test_pictures_come_back_whether_they_were_kept_or_not(tmp_path: Path, limit: int) -> None:
    found = keep_pictures(EXAMPLES, encode, tmp_path / "p", limit=limit)  # type: ignore[arg-type]
    assert len(found) == 9
    assert (tmp_path / "p").stat().st_size <= limit
    for n in range(9):
        assert found[n]["picture"].shape == (16 + n, 32, 3)
        assert (found[n]["picture"] == n).all()
        assert found[n]["scale"] == n / 2
    assert found.lengths.tolist() == [max(1, (16 + n) * 32 // 256) for n in range(9)]


def test_many_pictures_stay_in_order(tmp_path: Path) -> None:
    many = [Example({"image": str(n % 50)}) for n in range(150)]  # more than wait at once
    found = keep_pictures(many, encode, tmp_path / "p")  # type: ignore[arg-type]
    assert [int(found[n]["picture"][0, 0, 0]) for n in range(150)] == [n % 50 for n in range(150)]


def test_an_empty_part_is_no_fault(tmp_path: Path) -> None:
    assert len(keep_pictures([], encode, tmp_path / "p")) == 0  # type: ignore[arg-type]


def collate(indices: Sequence[int], positions: Sequence[int], epoch: int) -> Batch:
    return Batch({"pixels": torch.tensor([[i, p, epoch] for i, p in zip(indices, positions, strict=True)])}, None,
                 tuple(positions))  # fmt: skip


GROUP = """
import os, signal, time
import numpy as np
from tests.data.test_stored import collate
from tunesmith.data.batches import TrainBatches
from tunesmith.data.prefetch import Prefetched

asked = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: asked.append(number))
plain = TrainBatches(np.ones(40, dtype=np.int32), collate, batch_size=4, micro_batch_size=2, seed=3)
ahead = Prefetched(plain, 10, 2)
for step in (1, 2):  # one of each worker: both have begun
    ahead.micro_batches(step)
for number in (signal.SIGTERM, signal.SIGINT):
    os.killpg(0, number)
time.sleep(0.2)
made = [len(ahead.micro_batches(step)) for step in range(3, 9)]
print(len(asked), made)  # and leaves while the workers live
"""


def test_a_signal_to_the_whole_group_leaves_the_workers_at_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROUP],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert (done.returncode, done.stdout) == (0, "2 [2, 2, 2, 2, 2, 2]\n"), done.stderr[-2000:]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_make_the_batches_that_would_be_made_here(workers: int) -> None:
    plain = TrainBatches(np.ones(10, dtype=np.int32), collate, batch_size=4, micro_batch_size=2, seed=3)
    ahead = Prefetched(plain, 7, workers)
    for step in (1, 2, 3, 6, 7):  # a resumed run starts elsewhere
        for one, two in zip(plain.micro_batches(step), ahead.micro_batches(step), strict=True):
            assert one.positions == two.positions
            assert torch.equal(one.inputs["pixels"], two.inputs["pixels"])
