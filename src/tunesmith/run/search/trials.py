"""The book of a search's trials: Optuna's study in SQLite, in the search folder.

A trial is written in one transaction with everything that was drawn for it, so that `kill -9` finds it whole or not at
all. What is drawn depends on the seed, the trial's number and the trials before it alone: with one trial at a time a
search gives the same trials however often it was killed. The sampler and the pruner therefore never remember anything;
they work on a copy of the study in memory that is made anew each time.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.space import Dimension, Value, in_order, is_active, settings
from tunesmith.run.search.trial_folder import Seen

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asking

NAME: Final = "search"
RUNGS_FROM, RUNGS_TIMES = 10, 3
"""A trial is judged at 10, 30 and 90 per cent of its own steps; about a third goes on (Li et al. 2018, arXiv
1810.05934, with a factor of 3 as in Li et al. 2016, arXiv 1603.06560)."""
COMPANY: Final = 4
"""So many others that it is compared with (of its bracket, with hyperband) must have come as far before a trial is
pruned: the first few know nothing of what is good."""
TRIES: Final = 40
"""Draws of one trial before the space counts as exhausted: a trial that was there already would only be repeated."""

Pruning = Literal["asha", "hyperband", "none"]
State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table. values: the main score on validation examples, and what was forgotten where that is an
    objective. course: (per cent of its steps, score) of its evaluations. seconds: of training and evaluating."""

    number: int
    state: State
    drawn: Mapping[str, Value]
    settings: tuple[str, ...]
    values: tuple[float, ...]
    course: tuple[tuple[int, float], ...]
    reason: str
    seconds: float


class Trials:
    """The trials of one search folder. Only the process that holds the folder's lock may open it."""

    def __init__(self, folder: Path, directions: Sequence[str], *, seed: int, pruning: Pruning = "none") -> None:
        from sqlalchemy import URL

        optuna = _optuna()
        self.seed, self.pruning, self.directions = seed, pruning, tuple(directions)
        place = URL.create("sqlite", database=str(folder.resolve() / "study.db"))  # a folder may be called `a?1`
        self._storage = optuna.storages.RDBStorage(place.render_as_string())
        self._study = optuna.create_study(
            storage=self._storage, study_name=NAME, directions=list(directions), load_if_exists=True
        )
        self._id = self._storage.get_study_id_from_name(NAME)

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __len__(self) -> int:
        return len(self._frozen())

    def all(self) -> list[Trial]:
        """Every trial, by number."""
        return [_row(frozen) for frozen in self._frozen()]

    def running(self) -> list[Trial]:
        """Those that have not ended, by number."""
        return [trial for trial in self.all() if trial.state == "running"]

    def add(self, drawn: Mapping[str, Value], changes: Sequence[str], space: Sequence[Dimension]) -> Trial:
        """Write down a new trial, running."""
        optuna = _optuna()
        distributions = {d.name: d.distribution() for d in space if d.name in drawn}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=dict(drawn),
                distributions=distributions,
                user_attrs={"settings": list(changes)},
            )
        )
        return self.all()[-1]

    def draw(self, space: Sequence[Dimension], recipe: Recipe) -> dict[str, Value] | None:
        """What the next trial takes, by dimension's name; None when nothing new was found to try."""
        rows = self.all()
        # The default changes nothing, so it has no settings; its values are tried all the same.
        number, seen = len(rows), {*(trial.settings for trial in rows), *(settings(space, t.drawn) for t in rows[:1])}
        for attempt in range(TRIES):
            drawn = self._drawn(space, recipe, number, attempt)
            if settings(space, drawn) not in seen:
                return drawn
        return None

    def judge(self, number: int, course: Sequence[Seen], main: str, decided: int) -> int | None:
        """The step of the evaluation after which the trial is pruned, or None. Evaluations up to the step `decided`
        were let pass before and stay so. The scores are written down. Never the default, never the last evaluation.
        """
        everything = self._frozen()
        frozen = everything[number]
        single = len(self.directions) == 1
        for seen in course if single else ():
            if seen.share not in frozen.intermediate_values:
                self._storage.set_trial_intermediate_value(frozen._trial_id, seen.share, float(seen.scores[main]))
        if self.pruning == "none" or not single:
            return None
        return self._pruned_after(everything, number, course, main, decided)

    def end(self, number: int, state: State, values: Sequence[float] = (), *, reason: str = "", seconds: float) -> None:
        """A trial is over; what is over already stays as it was."""
        states = _optuna().trial.TrialState
        frozen = self._frozen()[number]
        if frozen.state.is_finished():
            return
        self._storage.set_trial_user_attr(frozen._trial_id, "reason", reason)
        self._storage.set_trial_user_attr(frozen._trial_id, "seconds", seconds)
        by_name = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
        self._study.tell(number, list(values) if values else None, state=by_name[state], skip_if_finished=True)

    def copy(self, space: Sequence[Dimension] = (), sampler: Any = None) -> Study:
        """The study in memory. With a space, trials that do not fill it are set aside as failed: they lie outside."""
        optuna = _optuna()
        copied: Study = optuna.create_study(
            study_name=NAME, directions=list(self.directions), sampler=sampler, pruner=self._pruner()
        )
        for frozen in self._frozen():
            copied.add_trial(_outside() if space and not frozen.params else frozen)
        return copied

    def _frozen(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _drawn(self, space: Sequence[Dimension], recipe: Recipe, number: int, attempt: int) -> dict[str, Value]:
        optuna = _optuna()
        digest = hashlib.sha256(f"{self.seed}/{number}/{attempt}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "little"))
            trial = self.copy(space, sampler).ask()
            drawn: dict[str, Value] = {}
            by_path: dict[str, Value] = {}
            for dimension in in_order(space):
                if is_active(dimension, by_path, recipe):
                    value = _suggested(trial, dimension)
                    drawn[dimension.name] = by_path[dimension.path] = value
        return drawn

    def _pruned_after(
        self, everything: Sequence[FrozenTrial], number: int, course: Sequence[Seen], main: str, decided: int
    ) -> int | None:
        """See `judge`. The trial is gone through again from its first evaluation on a copy that knows of its rungs
        nothing, so that asking twice gives the same answer."""
        optuna = _optuna()
        memory = optuna.storages.InMemoryStorage()
        copied = optuna.create_study(
            storage=memory, study_name=NAME, directions=list(self.directions), pruner=self._pruner()
        )
        for frozen in everything:
            fresh = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            copied.add_trial(fresh if frozen.number == number else frozen)
        here = copied.get_trials(deepcopy=False)[number]._trial_id
        found = None
        for seen in course:
            memory.set_trial_intermediate_value(here, seen.share, float(seen.scores[main]))
            pruned = copied.pruner.prune(copied, memory.get_trial(here))
            bracket = _bracket(copied, everything[number])
            company = sum(f.number != number and max(f.intermediate_values, default=0) >= seen.share
                          and _bracket(copied, f) == bracket for f in everything)  # fmt: skip
            if pruned and company >= COMPANY and number and seen.step > decided and seen.share < 100:
                found = seen.step
                break
        for key, value in memory.get_trial(here).system_attrs.items():
            if everything[number].system_attrs.get(key) != value:
                self._storage.set_trial_system_attr(everything[number]._trial_id, key, value)
        return found

    def _pruner(self) -> Any:
        pruners = _optuna().pruners
        if self.pruning == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=RUNGS_FROM, reduction_factor=RUNGS_TIMES)
        if self.pruning == "hyperband":
            return pruners.HyperbandPruner(min_resource=RUNGS_FROM, max_resource=100, reduction_factor=RUNGS_TIMES)
        return pruners.NopPruner()


def _bracket(study: Study, frozen: FrozenTrial) -> int:
    """Which of hyperband's brackets a trial is in, once its pruner has been asked: it compares within one. Else 0."""
    pruner: Any = study.pruner
    return int(pruner._get_bracket_id(study, frozen)) if isinstance(pruner, _optuna().pruners.HyperbandPruner) else 0


def _suggested(trial: Asking, dimension: Dimension) -> Value:
    if dimension.choices:
        return str(trial.suggest_categorical(dimension.name, dimension.choices))
    if dimension.whole:
        return trial.suggest_int(
            dimension.name, int(dimension.low), int(dimension.high), step=int(dimension.step or 1), log=dimension.log
        )
    drawn = trial.suggest_float(dimension.name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return dimension.tidy(drawn)


def _outside() -> FrozenTrial:
    optuna = _optuna()
    failed: FrozenTrial = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
    return failed


def _row(frozen: FrozenTrial) -> Trial:
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    attributes = frozen.user_attrs
    return Trial(
        number=frozen.number,
        state=states.get(frozen.state.name, "running"),
        drawn=dict(frozen.params),
        settings=tuple(attributes.get("settings", ())),
        values=tuple(frozen.values or ()) if frozen.state.name == "COMPLETE" else (),
        course=tuple(sorted(frozen.intermediate_values.items())),
        reason=str(attributes.get("reason", "")),
        seconds=float(attributes.get("seconds", 0.0)),
    )


def _optuna() -> Any:
    """Optuna, which says only what is wrong: it logs every trial by itself otherwise."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
