"""Keeping freed memory changes how long a step takes, and no number."""

from __future__ import annotations

import platform
import sys

import pytest
import torch

from tunesmith.train.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back so eagerly")
def test_glibc_takes_the_wish_and_sums_stay_as_they_were() -> None:
    def total() -> float:
        return torch.arange(12_000_000, dtype=torch.float32).mul_(0.5).sum().item()

    before = total()
    assert keep_freed_memory()
    assert total() == before


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
