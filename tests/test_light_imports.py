"""Nothing heavy is imported before it is used; the help answers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import tunesmith

HEAVY = ("torch", "transformers", "peft", "datasets", "pyarrow", "numpy", "sklearn", "accelerate", "pandas", "scipy")
SECONDS = 1.5
"""Bound in tests; alone on a machine it is under 0.5. Generous, since tests share their cores."""


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return {name for name in done.stderr.split() if name in HEAVY}


@pytest.mark.parametrize(
    "code",
    [
        "import tunesmith; tunesmith.Recipe; tunesmith.LoRA",
        "from tunesmith import Recipe\nRecipe.make(dict(task='text_classification', model='m', data='d'))",
        *(
            f"import tunesmith.cli\nsys.argv = ['tunesmith', *{words.split()!r}]\n"
            "try: tunesmith.cli.main()\nexcept SystemExit as leave: assert not leave.code, leave.code"
            for words in ("methods", "methods lora", "tasks", "schema", "init", "--help", "--version", "fit --help")
        ),
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert loaded_after(code) == set()


def test_help_is_quick() -> None:
    environment = {**os.environ, "TERM": "dumb"}
    command = [sys.executable, "-m", "tunesmith", "--help"]
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True)
        taken.append(time.perf_counter() - start)
    print(f"tunesmith --help: {min(taken):.2f} s")
    assert min(taken) < SECONDS


def test_the_public_names_are_there() -> None:
    expected = {"fit", "resume", "stream", "Recipe", "Run", "Step", "Evaluated", "TunesmithError", "RecipeError"}
    assert expected <= set(tunesmith.__all__) <= set(dir(tunesmith))
    for name in tunesmith.__all__:
        assert getattr(tunesmith, name).__doc__, f"{name} says nothing about itself"
    assert tunesmith.__version__


def test_methods_and_tasks_are_there_by_their_class_names() -> None:
    assert tunesmith.LoRA(rank=4).rank == 4
    assert tunesmith.LoRA.name == "lora"
    assert tunesmith.PrefixTuning.name == "prefix_tuning"
    assert tunesmith.TextClassification.name == "text_classification"
    with pytest.raises(AttributeError, match="Lroa"):
        _ = tunesmith.Lroa


def test_a_recipe_and_settings_together_are_refused() -> None:
    with pytest.raises(tunesmith.RecipeError, match="not both"):
        tunesmith.fit("recipe.yaml", task="text_classification")
