"""A search with trials of milliseconds (fake_trial.py), in this process or in one that can be killed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.run.worker import SERVER

FAKE = (sys.executable, str(Path(__file__).with_name("fake_trial.py")))
SPACE = ("train.learning_rate=1e-4..1e-1:log", "method.rank=4,8,16,32")
SETTINGS = {"task": "text_classification", "model": "a-model", "data": "reviews.csv", "method": "lora"}


def run(
    folder: Path,
    *,
    over: Sequence[str] = SPACE,
    settings: dict[str, Any] | None = None,
    program: Sequence[str] = FAKE,
    say: Callable[[str], None] | None = None,
    jobs: int = 1,
    trials: int = 8,
    seconds: float | None = None,
    seeds: int = 2,
    engine: Any = None,
    **options: Any,
) -> Any:
    """The search, gone on with where it began; what it found."""
    from tunesmith.recipe.recipe import Recipe
    from tunesmith.run.search.launch import Local
    from tunesmith.run.search.search import search
    from tunesmith.run.search.session import Limits
    from tunesmith.run.search.space import parse_over

    return search(
        Recipe.make(settings or SETTINGS),
        folder,
        space=[parse_over(text) for text in over],
        limits=Limits(trials, seconds, jobs, seeds),
        engine=engine or Local(jobs, program),
        say=say,
        **options,
    )


def work(folder: str, options: dict[str, Any]) -> None:
    """`run` as a process's target."""
    from tunesmith.errors import TunesmithError

    try:
        run(Path(folder), **options)
    except TunesmithError as fault:
        sys.exit(fault.exit_code)


def start(folder: Path, **options: Any) -> Any:
    """The process of a search, under way."""
    process = SERVER.Process(target=work, args=(str(folder), options))
    process.start()
    return process


class Forked:
    """An engine of real runs whose processes begin with everything imported."""

    def start(self, recipe: Any, folder: Path) -> Any:
        """The program of a trial, as a forked process."""
        import yaml

        words = ["resume", str(folder)]
        if not (folder / "manifest.json").is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            file = folder.parent / f"{folder.name}.yaml"
            file.write_text(yaml.safe_dump(recipe.as_dict()))
            words = ["fit", str(file), "--output", str(folder)]
        process = SERVER.Process(target=_trial, args=(words,))
        process.start()
        return _Forked(process)

    def close(self) -> None:
        """Nothing to do."""


class _Forked:
    def __init__(self, process: Any) -> None:
        self.process = process
        self.stop, self.poll = process.terminate, lambda: process.exitcode

    def end(self) -> None:
        self.process.kill()
        self.process.join()

    def reason(self, code: int) -> str:
        return f"exit code {code}"


def _trial(words: list[str]) -> None:
    from tunesmith.run.search.trial_process import work as program

    sys.exit(program(words))


def table(folder: Path) -> list[dict[str, Any]]:
    """trials.json without times."""
    import json

    found = json.loads((folder / "trials.json").read_text())
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in found["trials"]]
