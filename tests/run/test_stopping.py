"""What a signal does, and how running out of memory is told."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.errors import InterruptedRun, RunError
from tunesmith.run import pace, stopping
from tunesmith.run.folder import shared_by_all
from tunesmith.run.stopping import Stop
from tunesmith.train.device import Device
from tunesmith.train.memory import told_where_memory_ends


def test_a_second_sigterm_at_once_is_the_first_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    stop.wait = True
    stop(signal.SIGTERM, None)
    stop(signal.SIGTERM, None)
    assert stop.asked
    later = time.monotonic() + stopping.REPEATED
    monkeypatch.setattr(stopping.time, "monotonic", lambda: later)
    with pytest.raises(InterruptedRun, match="SIGTERM"):
        stop(signal.SIGTERM, None)


def test_a_second_sigterm_before_training_does_not_break_the_end_of_the_first() -> None:
    stop = Stop()
    with pytest.raises(InterruptedRun):
        stop(signal.SIGTERM, None)
    stop(signal.SIGTERM, None)


def test_a_second_ctrl_c_does_not_wait() -> None:
    stop = Stop()
    stop.wait = True
    stop(signal.SIGINT, None)
    with pytest.raises(InterruptedRun, match="SIGINT"):
        stop(signal.SIGINT, None)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
)
def test_the_end_of_memory_is_told_with_what_to_do(error: BaseException) -> None:
    with pytest.raises(RunError, match="micro_batch_size") as told, told_where_memory_ends():
        raise error
    assert str(error)[:20] in str(told.value)
    with pytest.raises(ValueError, match="other"), told_where_memory_ends():
        raise ValueError("other")


def test_a_run_folder_that_a_process_does_not_see_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="share"):
        shared_by_all(Device(), tmp_path)
    (tmp_path / "recipe.yaml").touch()
    shared_by_all(Device(), tmp_path)


def test_a_process_whose_share_is_empty_has_no_pace() -> None:
    assert pace.measured(lambda number: None, np.zeros(0), seconds=0.1) is pace.NONE
