"""Keeping freed memory changes how long a step takes, and no number."""

from __future__ import annotations

import platform
import sys

import pytest
import torch

from tunesmith.train import memory
from tunesmith.train.memory import Growth, keep_freed_memory, thrifty


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


def test_memory_goes_back_when_it_has_grown_a_fifth_beyond_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([90.0, 100.0, 95.0, 99.0, 119.0, 121.0, 150.0, 60.0, 70.0, 80.0, 179.0, 181.0, *[60.0] * 4, 170.0])
    trimmed: list[int] = []
    monkeypatch.setattr(memory, "held_mib", lambda: next(held))
    monkeypatch.setattr(memory, "trim", lambda: trimmed.append(1))
    growth = Growth()
    assert [growth.look() for _ in range(17)] == [False] * 5 + [True] + [False] * 5 + [True] + [False] * 5
    assert len(trimmed) == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory in pieces")
def test_what_lies_free_goes_back() -> None:
    blocks = [torch.ones(2**18) for _ in range(200)]  # 200 MiB
    top = torch.ones(2**18)
    full = memory.held_mib()
    del blocks
    memory.trim()
    assert memory.held_mib() < full - 100
    assert top.sum() == 2**18


def test_scoring_gives_memory_back_before_it_and_when_more_is_held_than_two_batches_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    held = iter([100.0, 110.0, 131.0, 133.0, 140.0, 150.0])
    monkeypatch.setattr(memory, "held_mib", lambda: next(held))
    monkeypatch.setattr(memory, "trim", lambda: seen.append("trim"))
    for batch in thrifty("abcdef"):
        seen.append(batch)
    assert seen == ["trim", "a", "b", "c", "d", "trim", "e", "f"]
