"""The spine of a search: trials of changed recipes, then the winner against the default on new seeds.

recipe and space -> folder and lock -> the default as trial 0, which resolves the space -> trials, each an ordinary run
in a process of its own -> the winner confirmed -> best.yaml, trials.json, search.html. Started again after any end it
goes on: what it knows stands in its folder, and a trial that was under way goes on with its own run.

Trials are chosen, pruned and confirmed by evaluations on validation examples, read from `events.jsonl`
(run/search/trial_folder.py); the test part is not looked at. Old tasks that have one part only are the exception: what
is reported of them is of the examples that chose, and best.yaml and the page say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tunesmith.errors import RecipeError, RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.absolute import absolute
from tunesmith.run.folder import locked
from tunesmith.run.search.book import open_book
from tunesmith.run.search.checks import checked
from tunesmith.run.search.clock import Clock
from tunesmith.run.search.confirm import Verdict, confirm
from tunesmith.run.search.files import Searched, write_files
from tunesmith.run.search.launch import Crew, Engine, Local
from tunesmith.run.search.report import write_report
from tunesmith.run.search.session import Limits, Say, Session
from tunesmith.run.search.space import Dimension, plugin_name
from tunesmith.run.search.trial_work import TrialWork, begin
from tunesmith.run.search.trials import Pruning, Trial, Trials
from tunesmith.run.search.winner import choose
from tunesmith.run.stopping import stop_on_signals


def search(
    recipe: Recipe,
    folder: Path | None = None,
    *,
    space: Sequence[Dimension] = (),
    limits: Limits | None = None,
    forgetting: bool = False,
    pruning: Pruning = "asha",
    engine: Engine | None = None,
    say: Say | None = None,
) -> Searched:
    """Search for a better recipe, or go on with the search in `folder`.

    space: what may differ (`parse_over`, `read_space`); empty: the default space of task and method. forgetting: what
    old tasks lose is a second objective; no trial is pruned then, since Optuna prunes by one objective only. say: hears
    a line whenever something happened. InterruptedRun on SIGINT and SIGTERM; RunError when every trial failed.
    """
    limits = limits or Limits()
    recipe = absolute(recipe)
    if forgetting and not recipe.forgetting.old_tasks:
        raise RecipeError("forgetting is an objective, but the recipe names no old task: set forgetting.old_tasks.")
    asked = checked(space, recipe)
    folder = Path(folder or _folder_for(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), stop_on_signals() as stop:
        stop.wait = True
        book, began = open_book(folder, recipe, asked, forgetting=forgetting, pruning=pruning)
        crew, clock = Crew(engine or Local(limits.jobs)), Clock(folder / "clock.json", limits.seconds)
        session = Session(book, limits, crew, clock, stop, say or (lambda line: None))
        session.say(f"going on with the search in {folder}" if began else f"a new search in {folder}")
        try:
            return _search(session)
        finally:
            crew.close()
            clock.tick(now=True)


def _search(session: Session) -> Searched:
    trials = begin(session)
    verdict = Verdict("open", "The search has not ended.")
    try:
        TrialWork(session, trials).run()
        rows = trials.all()
        verdict = confirm(session, _winner(session, rows), rows[0])
    finally:
        found = _found(session, trials, verdict)
        write_files(found)
        write_report(found, trials)
        trials.close()
    if found.best is None and not any(trial.state == "running" for trial in found.trials):
        raise RunError(_nothing(found.trials))
    session.say(verdict.words)
    return found


def _winner(session: Session, rows: Sequence[Trial]) -> Trial | None:
    assert session.book.main is not None
    return choose(rows, session.book.main)


def _found(session: Session, trials: Trials, verdict: Verdict) -> Searched:
    rows = trials.all()
    return Searched(session.book, tuple(rows), _winner(session, rows), verdict, session.clock.seconds())


def _folder_for(recipe: Recipe) -> Path:
    model = re.sub(r"[^A-Za-z0-9]+", "-", recipe.model.name.rsplit(":", 1)[-1])[-40:].strip("-")
    return Path("runs") / f"search-{plugin_name(recipe.task)}-{plugin_name(recipe.method)}-{model}"


def _nothing(trials: Sequence[Trial]) -> str:
    reasons = dict.fromkeys(trial.reason.splitlines()[0] for trial in trials if trial.reason)
    return "\n".join([
        f"all {len(trials)} trials failed, so there is no best recipe. Why, each reason once:",
        *(f"- {reason}" for reason in list(reasons)[:5]),
        "Try the recipe itself first (tunesmith fit), then a narrower --over; a loss that is not finite wants a lower "
        "learning rate.",
    ])  # fmt: skip
