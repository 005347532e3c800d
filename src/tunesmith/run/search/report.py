"""The page of a search: one file that tells what was found, how sure that is, and what made the difference.

Style and pictures inline, no script, nothing from the network, light or dark as the reader's system is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from tunesmith.run.compare.charts import Dot, scatter
from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.charts import Line, line_chart
from tunesmith.run.report_parts.pages import environment, style_of
from tunesmith.run.search.checks import values_of
from tunesmith.run.search.files import Searched, changes_of, chosen_on
from tunesmith.run.search.space import Dimension
from tunesmith.run.search.trials import Trial, Trials
from tunesmith.run.search.winner import front
from tunesmith.train.checkpoint import write_atomically
from tunesmith.types import MainScore

ENOUGH: Final = 5
"""Complete trials from which importances are worked out."""
SLICES: Final = 4
"""Settings that get a picture, the most important first."""
PAGE: Final = "search.html"


def write_report(found: Searched, trials: Trials) -> Path:
    """Write search.html into the search's folder. DiskError where the disk refuses."""
    here = Path(__file__).parent
    style = style_of(here.parent / "report.css", here.parent / "compare" / "compare.css")
    text = environment(here).get_template("search.html.j2").render(style=style, **context(found, trials))
    write_atomically(found.folder / PAGE, text)
    return found.folder / PAGE


def context(found: Searched, trials: Trials) -> dict[str, Any]:
    """Everything that the template shows."""
    main, space = found.book.main, found.book.space or ()
    assert main is not None
    weights = importances(found, trials)
    values = values_of(found.book.recipe)
    best = found.best
    return {
        "name": found.folder.resolve().name,
        "about": [(key, str(values[key])) for key in ("task", "method")] + [("model", found.book.recipe.model.name)],
        "metric": words.name(main.name),
        "metric_in_words": words.inside(main.name),
        "better": main.better,
        "verdict": found.verdict,
        "gain": found.verdict.gain,
        "best": best,
        "chosen_on": chosen_on(found)[:1].upper() + chosen_on(found)[1:],
        "default": found.trials[0],
        "seconds": found.seconds,
        "counts": {s: sum(t.state == s for t in found.trials) for s in ("complete", "pruned", "failed", "running")},
        "history": _history(found.trials, main),
        "front": _front(found.trials, main) if found.book.forgetting else Markup(""),
        "forgetting": found.book.forgetting,
        "weights": [(name, share) for name, share in weights.items()],
        "slices": [_slice(d, found.trials, main) for d in _told(space, weights)[:SLICES]],
        "space": space,
        "rows": [_row(trial, best) for trial in found.trials],
        "pruning": found.book.pruning if not found.book.forgetting else "none",
        "changes": changes_of(found),
    }


def importances(found: Searched, trials: Trials) -> dict[str, float]:
    """How much of the differences in score each setting explains, 0 to 1, the most first (fANOVA: Hutter, Hoos and
    Leyton-Brown 2014). Of settings that every complete trial had; empty with fewer than five complete trials."""
    complete = [trial for trial in found.trials if trial.state == "complete" and trial.drawn]
    if len(complete) < ENOUGH or len({trial.values[0] for trial in complete}) < 2:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = trials.copy(found.book.space or ())
        try:
            told = get_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda t: t.values[0]
            )
        except (ValueError, RuntimeError):  # no setting that all of them have, or none that differs
            return {}
    return {name: float(share) for name, share in told.items() if math.isfinite(share)}


def _told(space: Sequence[Dimension], weights: Mapping[str, float]) -> list[Dimension]:
    """The dimensions that get a picture: those with a range of numbers, the most important first."""
    numbers = [d for d in space if not d.choices or all(_number(c) is not None for c in d.choices)]
    return sorted(numbers, key=lambda d: -weights.get(d.name, 0.0))


def _history(trials: Sequence[Trial], main: MainScore) -> Markup:
    """The score of each trial, and the best so far."""
    done = [trial for trial in trials if trial.values]
    if not done:
        return Markup("")
    xs = np.array([trial.number for trial in done], np.float64)
    ys = np.array([trial.values[0] for trial in done])
    best = np.maximum.accumulate(ys) if main.better == "higher" else np.minimum.accumulate(ys)
    label = f"Validation {words.inside(main.name)} of {len(done)} complete trials; best {best[-1]:.3f}."
    lines = [Line("soft", xs, ys, dots=True), Line("bold", xs, best)]
    return line_chart(lines, label=label, x_title="trial", y_title=words.name(main.name))


def _front(trials: Sequence[Trial], main: MainScore) -> Markup:
    """Score against forgetting, the front filled."""
    done = [trial for trial in trials if len(trial.values) > 1]
    if not done:
        return Markup("")
    on_front = {trial.number for trial in front(done, main)}
    dots = [_dot(t, t.values[1], named=True, filled=t.number in on_front) for t in done]
    label = (
        f"Validation {words.inside(main.name)} against forgetting of {len(dots)} trials; the numbers are in the table."
    )
    return scatter(dots, label=label, x_title="most that an old task lost", y_title=words.name(main.name))


def _slice(dimension: Dimension, trials: Sequence[Trial], main: MainScore) -> tuple[str, Markup]:
    """Score against one setting."""
    dots = []
    for trial in trials:
        value = _number(trial.drawn.get(dimension.name))
        if trial.values and value is not None and (value > 0 or not dimension.log):
            dots.append(_dot(trial, math.log10(value) if dimension.log else value))
    if len(dots) < 2:
        return dimension.name, Markup("")
    title = dimension.name + (", power of ten" if dimension.log else "")
    label = f"Validation {words.inside(main.name)} against {title} of {len(dots)} trials; the numbers are in the table."
    return dimension.name, scatter(dots, label=label, x_title=title, y_title=words.name(main.name))


def _dot(trial: Trial, x: float, *, named: bool = False, filled: bool = False) -> Dot:
    nothing = (math.nan, math.nan)
    return Dot(f"trial {trial.number}" if named else "", x, trial.values[0], nothing, nothing, filled)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _row(trial: Trial, best: Trial | None) -> dict[str, Any]:
    last = trial.course[-1] if trial.course else None
    return {
        "number": trial.number,
        "state": trial.state,
        "is_best": best is not None and trial.number == best.number,
        "score": trial.values[0] if trial.values else None,
        "seen": f"{last[1]:.3f} at {last[0]} %" if last and not trial.values else "",
        "forgotten": trial.values[1] if len(trial.values) > 1 else None,
        "settings": " ".join(trial.settings) or "the recipe as it is",
        "seconds": trial.seconds,
        "reason": trial.reason,
    }
