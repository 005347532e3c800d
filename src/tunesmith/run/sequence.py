"""Tasks learned one after the other: how well each is still done after each stage, and what that sums up to.

With s(i, j) the main score of task j after stage i, among T stages (signs turned where lower is better):

    forgetting of j        = max over i from j to T-1 of s(i, j), minus s(T, j)
    backward transfer of j = s(T, j) - s(j, j)

both averaged over the tasks before the last (Chaudhry et al. 2018, arXiv:1801.10112, eq. 3; Lopez-Paz and Ranzato
2017, arXiv:1706.08840, section 2). A score that no run has taken is None and enters nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import RunError
from tunesmith.forgetting.old_tasks import names_of
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.earlier import run_of
from tunesmith.run.folder import Finished, open_run
from tunesmith.types import MainScore

DEFINITIONS = (
    "rows are stages, columns are tasks: the main score of a task on its own test examples after that stage",
    "forgetting of a task: its best score at any stage before the last, minus that after the last; above 0 is lost",
    "backward transfer of a task: its score after the last stage, minus that when it was learned; below 0 is lost",
    "both turned round for scores where lower is better, and averaged over the tasks before the last",
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Scores of every task after every stage.

    names: of the tasks, in the order they were learned. scores: each task's main score. table: [stage][task], None
    where no score was taken; examples: how many each is taken on. forgetting, backward_transfer: a value a task before
    the last, None where a score for it lacks. notes: what a reader must know besides, in sentences.
    """

    runs: tuple[Path, ...]
    names: tuple[str, ...]
    scores: tuple[MainScore, ...]
    table: tuple[tuple[float | None, ...], ...]
    examples: tuple[tuple[int | None, ...], ...]
    forgetting: tuple[float | None, ...]
    backward_transfer: tuple[float | None, ...]
    notes: tuple[str, ...]

    @property
    def average_forgetting(self) -> float | None:
        """Mean over the tasks before the last; None where none was scored, or their scores have no common scale."""
        return self._mean(self.forgetting)

    @property
    def average_backward_transfer(self) -> float | None:
        """Mean over the tasks before the last, as `average_forgetting`."""
        return self._mean(self.backward_transfer)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "runs": [str(run) for run in self.runs],
            "tasks": list(self.names),
            "main_scores": [{"name": score.name, "better": score.better} for score in self.scores],
            "table": [list(row) for row in self.table],
            "examples": [list(row) for row in self.examples],
            "forgetting": {"by_task": list(self.forgetting), "average": self.average_forgetting},
            "backward_transfer": {"by_task": list(self.backward_transfer), "average": self.average_backward_transfer},
            "definitions": list(DEFINITIONS),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The table, the two sums, what the numbers mean, and the notes, for a person."""
        heads = [f"{name} ({score.name})" for name, score in zip(self.names, self.scores, strict=True)]
        first = max(len("after learning"), *(len(name) for name in self.names), len("backward transfer"))
        rows = [["after learning", *heads]]
        for stage, name in enumerate(self.names):
            seen = [_shown(value, "not taken") for value in self.table[stage][: stage + 1]]
            rows.append([name, *seen, *["-"] * (len(self.names) - stage - 1)])
        rows.append(["forgetting", *(_shown(v, "not taken", sign=True) for v in self.forgetting), "-"])
        rows.append(["backward transfer", *(_shown(v, "not taken", sign=True) for v in self.backward_transfer), "-"])
        widths = [first, *(max(len(row[i]) for row in rows) for i in range(1, len(self.names) + 1))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        sums = [
            f"average forgetting         {_shown(self.average_forgetting, 'not to be had', sign=True)}",
            f"average backward transfer  {_shown(self.average_backward_transfer, 'not to be had', sign=True)}",
        ]
        return [*table, "", *sums, "", *DEFINITIONS, *self.notes]

    def _mean(self, values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and _comparable(self.scores[:-1]) else None


def matrix(runs: Sequence[Path | str]) -> Matrix:
    """The matrix of finished runs in the order they were learned, each started from the one before; of a single run,
    those that it came from are found by its recipe. RunError where the runs are no such sequence."""
    found = [open_run(run) for run in runs]
    if len(found) == 1:
        found = _back_from(found[0])
    for before, after in itertools.pairwise(found):
        origin = _started_from(after)
        if origin is None or origin.resolve() != before.folder.resolve():
            other = origin or after.recipe["model"]["name"]
            raise RunError(
                f"{after.folder} did not start from {before.folder} but from {other}. "
                "Name the runs in the order they were learned, each with the one before as its model; or only the last."
            )
    cells = [[_cell(found, stage, task) for task in range(len(found))] for stage in range(len(found))]
    table = tuple(tuple(value for value, _ in row) for row in cells)
    examples = tuple(tuple(count for _, count in row) for row in cells)
    scores = tuple(MainScore(**run.scores["main_score"]) for run in found)
    names = _names([run.folder for run in found])
    lost, gained = _sums(table, scores)
    notes = _notes(names, scores, table, examples)
    return Matrix(tuple(run.folder for run in found), names, scores, table, examples, lost, gained, notes)


def _back_from(last: Finished) -> list[Finished]:
    """The runs that led to this one, the first learned first."""
    found = [last]
    while (origin := _started_from(found[0])) is not None:
        if any(origin.resolve() == run.folder.resolve() for run in found):
            raise RunError(f"{origin} came out of itself by what its recipe says; its recipe.yaml was changed.")
        found.insert(0, open_run(origin))
    if len(found) == 1:
        raise RunError(
            f"{last.folder} did not start from an earlier run, but from {last.recipe['model']['name']}; there is no "
            "sequence to look back on. A next task starts from a run with: model: RUN (tunesmith fit --model RUN)."
        )
    return found


def _started_from(run: Finished) -> Path | None:
    """The earlier run that a run started from, by its recipe, else by the files that its manifest tells of."""
    if (found := run_of(run.recipe["model"]["name"])) is not None:
        return found
    return run_of(str(_manifest(run).get("model", {}).get("path", "")))


def _manifest(run: Finished) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{run.folder}/manifest.json cannot be read: {error}") from error
    return found


def _cell(runs: Sequence[Finished], stage: int, task: int) -> tuple[float | None, int | None]:
    """Main score of a task after a stage and on how many examples; (None, None) where it was not taken."""
    learned, now = runs[task], runs[stage]
    main = learned.scores["main_score"]["name"]
    if stage == task:
        sizes = _manifest(learned).get("data", {}).get("summary", {}).get("split_sizes", {})
        return learned.scores.get("after", {}).get(main), sizes.get(learned.scores.get("part"))
    told = _told_of(now, learned) if stage > task else None
    return (None, None) if told is None else (told.get("after", {}).get(main), told.get("rows"))


def _told_of(now: Finished, learned: Finished) -> Mapping[str, Any] | None:
    """What a run's scores say of an earlier run's task on its own examples; None where nothing."""
    scored: Mapping[str, Mapping[str, Any]] = now.scores.get("old_tasks") or {}
    tasks = Recipe.make(now.recipe).forgetting.old_tasks
    for task, name in zip(tasks, names_of(tasks), strict=True):
        origin = run_of(task.source) if task.data is None else None
        if origin is not None and origin.resolve() == learned.folder.resolve() and name in scored:
            return scored[name]
    return None


def _sums(
    table: Sequence[Sequence[float | None]], scores: Sequence[MainScore]
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Forgetting and backward transfer of each task but the last."""
    lost: list[float | None] = []
    gained: list[float | None] = []
    for task, score in enumerate(scores[:-1]):
        sign = 1.0 if score.better == "higher" else -1.0
        last, first = table[-1][task], table[task][task]
        seen = [sign * value for row in table[task:-1] if (value := row[task]) is not None]
        lost.append(max(seen) - sign * last if last is not None and seen else None)
        gained.append(sign * (last - first) if last is not None and first is not None else None)
    return tuple(lost), tuple(gained)


def _comparable(scores: Sequence[MainScore]) -> bool:
    """Whether a mean over these means something: one score, or several that all run upwards to 1."""
    return len({score.name for score in scores}) == 1 or all(score.better == "higher" for score in scores)


def _notes(
    names: Sequence[str],
    scores: Sequence[MainScore],
    table: Sequence[Sequence[float | None]],
    examples: Sequence[Sequence[int | None]],
) -> tuple[str, ...]:
    found = []
    for task, name in enumerate(names[:-1]):
        missing = [names[stage] for stage in range(task + 1, len(names)) if table[stage][task] is None]
        if missing:
            found.append(
                f"{name} was not scored after {', '.join(missing)}: its run folder was not among that run's "
                "forgetting.old_tasks (with its own data)"
            )
        counts = {row[task] for row in examples[task:]} - {None}
        if len(counts) > 1:
            told = ", ".join(f"{count:,}" for count in sorted(c for c in counts if c is not None))
            found.append(
                f"{name} was scored on {told} examples at different stages, so its differences hold chance too"
            )
    if not _comparable(scores[:-1]):
        kinds = ", ".join(sorted({f"{score.name} ({score.better} is better)" for score in scores[:-1]}))
        found.append(f"no averages: {kinds} have no common scale")
    elif len(used := {score.name for score in scores[:-1]}) > 1:
        found.append(f"the averages are over different scores: {', '.join(sorted(used))}")
    return tuple(found)


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The folders' own names; whole paths where two are called alike."""
    short = [folder.resolve().name for folder in folders]
    return tuple(short) if len(set(short)) == len(short) else tuple(str(folder) for folder in folders)


def _shown(value: float | None, otherwise: str, *, sign: bool = False) -> str:
    if value is None:
        return otherwise
    return f"{value:+.3f}" if sign else f"{value:.3f}"
