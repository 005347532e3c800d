"""What the process of a run is told: no launch of its caller's, its share of the cores, a GPU of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from tests.run.studies import bare_recipe

from tunesmith.cores import cores
from tunesmith.run.compare.cell import Outcome, make_cell
from tunesmith.run.compare.cells import run_cells
from tunesmith.run.compare.child import Child
from tunesmith.run.compare.environment import gpus_for, threads_for
from tunesmith.run.search.launch import Local

TELLS = ("sh", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES; exec sleep 60")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def told(folder: Path) -> str:
    """The GPU that a run's process was given."""
    log, until = folder.parent / f"{folder.name}.log", time.monotonic() + 10
    while "gpu=" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    return log.read_text().rpartition("gpu=")[2].strip()


@pytest.mark.usefixtures("two_gpus")
def test_trials_at_once_are_spread_over_the_gpus_and_a_free_one_is_taken_again(tmp_path: Path) -> None:
    engine, recipe = Local(3, TELLS), bare_recipe(tmp_path)
    made = {name: engine.start(recipe, tmp_path / name) for name in "abc"}
    try:
        assert [told(tmp_path / name) for name in "abc"] == ["0", "1", "0"]
        made["b"].end()
        made["d"] = engine.start(recipe, tmp_path / "d")
        assert told(tmp_path / "d") == "1"
    finally:
        for handle in made.values():
            handle.end()


@pytest.mark.usefixtures("two_gpus")
def test_cells_at_once_are_spread_over_the_gpus(tmp_path: Path) -> None:
    base = bare_recipe(tmp_path)
    work = [(make_cell(name, base, {}), tmp_path / "cells" / name) for name in "abcd"]
    program = ("sh", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES; sleep 0.2")
    outcomes: list[Outcome] = run_cells(work, jobs=2, program=program)
    assert len(outcomes) == 4
    assert sorted(told(folder) for _, folder in work) == ["0", "0", "1", "1"]
    assert told(work[0][1]) != told(work[1][1])


@pytest.mark.usefixtures("two_gpus")
def test_a_single_run_sees_what_its_caller_sees(tmp_path: Path) -> None:
    made = Local(1, TELLS).start(bare_recipe(tmp_path), tmp_path / "one")
    assert told(tmp_path / "one") == ""
    made.end()


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_named_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus_for(4) == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-7a,-1,2")
    assert gpus_for(4) == ("5", "GPU-7a")  # those that torch counts: CUDA stops at the first that is not there
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus_for(4) == ()


def test_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 7}, raising=False)
    assert cores() == 2
    assert threads_for(1) == {}
    assert threads_for(2) == {"OMP_NUM_THREADS": "1"}
    made = Local(2, ("sh", "-c", "echo gpu=$OMP_NUM_THREADS")).start(bare_recipe(tmp_path), tmp_path / "one")
    assert told(tmp_path / "one") == "1"
    made.end()
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_for(2) == {}


def test_a_run_takes_no_part_in_the_launch_of_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "29500",
              "TORCHELASTIC_RUN_ID": "7", "OMPI_COMM_WORLD_SIZE": "1"}  # fmt: skip
    for name, value in {**launch, "HF_HOME": "there"}.items():
        monkeypatch.setenv(name, value)
    made = Child(bare_recipe(tmp_path), tmp_path / "one", program=("sh", "-c", "env; echo gpu="))
    told(tmp_path / "one")
    names = {line.partition("=")[0] for line in (tmp_path / "one.log").read_text().splitlines()}
    made.end()
    assert not names & set(launch)
    assert {"HF_HOME", "PYTHONUNBUFFERED"} <= names
