"""What the engine of Ray asks for and says, with a stand-in for Ray; test_search.py has a real cluster where Ray is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.run.studies import PROGRAM, bare_recipe

from tunesmith.errors import DiskError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.launch import Crew
from tunesmith.run.search.launch_ray import RayEngine


class Ray:
    """A cluster that works off a task when it is given."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, **resources: float) -> None:
        self.resources, self.asked, self.tasks = resources, dict[str, Any](), 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **asked: Any) -> Any:
        self.asked = asked
        return lambda function: SimpleNamespace(remote=lambda *given: self._work_off(function, given))

    def _work_off(self, function: Any, given: Any) -> Any:
        self.tasks += 1
        try:
            return function(*given)
        except Exception as error:
            return RuntimeError(f"ray::work() raised {error}")

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return references, []

    def get(self, reference: Any) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference


@pytest.mark.parametrize(("resources", "gpus"), [({"CPU": 8.0}, 0), ({"CPU": 8.0, "GPU": 4.0}, 1)])
def test_a_trial_asks_for_a_gpu_where_the_cluster_has_any(
    resources: dict[str, float], gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray(**resources)
    monkeypatch.setitem(sys.modules, "ray", ray)
    RayEngine(program=PROGRAM)
    assert ray.asked["num_gpus"] == gpus
    assert ray.asked["num_cpus"] == 1


def test_a_disk_that_refuses_in_a_worker_stops_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    (tmp_path / "trials").mkdir()
    folder = (tmp_path / "trials" / "0001").resolve()
    (tmp_path / "trials" / "0001.log").mkdir()  # no log can be written
    crew, recipe = Crew(RayEngine(program=PROGRAM)), bare_recipe(tmp_path)
    crew.start(Recipe.make(recipe.as_dict()), folder)
    with pytest.raises(DiskError, match=r"0001.*cannot write"):
        list(crew.ended())
    assert ray.tasks == 1
