"""What a person sees in the terminal: the progress of a fit, its result, listings, and faults as one block."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tunesmith.errors import (
    DataError,
    InterruptedRun,
    ModelError,
    NotFiniteError,
    RecipeError,
    TunesmithError,
    did_you_mean,
)
from tunesmith.terminal_text import harmless, plain

if TYPE_CHECKING:
    from tunesmith.deploy.evaluation import Evaluation
    from tunesmith.deploy.harness import HarnessEvaluation
    from tunesmith.plugin import Registry
    from tunesmith.run.folder import Finished

_TITLES: tuple[tuple[type[TunesmithError], str], ...] = (
    (RecipeError, "the recipe or the command line is not right"),
    (DataError, "the data cannot be used as it is"),
    (ModelError, "the model cannot be used"),
    (InterruptedRun, "interrupted, and saved"),
    (NotFiniteError, "stopped: not a finite number"),
    (TunesmithError, "this run cannot go on"),
)


def show_run(run: Finished) -> None:
    """The result of a finished run: scores before and after with their interval, and where everything lies."""
    console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")  # of several processes the first
    for line in result_lines(run.scores):
        console.print(line, soft_wrap=True)
    console.print(f"run folder  {plain(str(run.folder))}", soft_wrap=True)
    page = run.folder / "report.html"
    if page.exists():
        console.print(f"report      {plain(str(page))}", soft_wrap=True)


def result_lines(scores: Mapping[str, Any]) -> list[str]:
    """The main score of a run's scores.json in words, before and after, with intervals where it has them."""
    name = scores["main_score"]["name"]
    lines = []
    for when, words in (("before", "untouched model"), ("after", "fine-tuned")):
        value = scores.get(when, {}).get(name)
        if value is not None:
            interval = scores.get("intervals", {}).get(when, {}).get(name)
            span = f"  (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            lines.append(f"{words:<17}{name} {_told(name, value)}{span}")
    gain = scores.get("difference", {}).get(name)
    if gain and not isnan(gain[0]):
        lines.append(f"{'difference':<17}{gain[0]:+.3f}  (95 % interval {gain[1]:+.3f} to {gain[2]:+.3f})")
    for task, told in scores.get("old_tasks", {}).items():
        metric = told["main_score"]["name"]
        lost, low, high = told["forgetting"]["initial_minus_last"]
        much = "not known" if isnan(lost) else f"{lost:+.3f}  (95 % interval {low:+.3f} to {high:+.3f})"
        lines.append(
            f"{'forgotten':<17}{much}: {task}, {metric} "
            f"{_told(metric, told['before'][metric])} before, {_told(metric, told['after'][metric])} after"
        )
    return lines


def _told(metric: str, value: float) -> str:
    """A score in figures, or that there was none: the -1 of COCO's says that there is no true box."""
    return "nothing to score" if metric.startswith("ap") and value < 0 else f"{value:.3f}"


def evaluation_lines(found: Evaluation) -> list[str]:
    """Scores on new data in words, the main one first."""
    low, high = found.interval
    head = f"{found.main_score} {found.scores[found.main_score]:.3f}  (95 % interval {low:.3f} to {high:.3f})"
    count = f"  on {found.examples:,} examples of {found.data}"
    others = [f"{name} {value:.3f}" for name, value in found.scores.items() if name != found.main_score]
    left_out = [f"{found.unlabelled:,} rows without a label were left out"] if found.unlabelled else []
    left_out += [f"{count:,} rows were left out: {reason}" for reason, count in list(found.refused.items())[:3]]
    return [head + count, *others, *left_out]


def harness_lines(found: HarnessEvaluation) -> list[str]:
    """Scores on a task of the harness in words: the delivered model's, the untouched one's, and the difference."""
    sides = [("fine-tuned", found.scores, found.interval)]
    if found.untouched is not None and found.untouched_interval is not None:
        sides.insert(0, ("untouched model", found.untouched, found.untouched_interval))
    lines = [f"{found.task}  {found.documents:,} documents"]
    for words, scores, (low, high) in sides:
        others = "".join(f"  {name} {value:.3f}" for name, value in scores.items() if name != found.main_score)
        head = f"{found.main_score} {scores[found.main_score]:.3f}  (95 % interval {low:.3f} to {high:.3f})"
        lines.append(f"{words:<17}{head}{others}")
    if found.difference is not None:
        gain, low, high = found.difference
        lines.append(f"{'difference':<17}{gain:+.3f}  (95 % interval {low:+.3f} to {high:+.3f})")
    return [*lines, *([found.why_alone] if found.why_alone else [])]


def answer_line(answer: Mapping[str, Any]) -> str:
    """One answer for a person: the label, how sure, and the text or picture; of boxes how many of each class; of a
    language model its words and the question, each on one line."""
    if "answer" in answer:
        asked = answer.get("text") or (answer.get("messages") or [{}])[-1].get("content") or ""
        said = f"({answer['fault']})" if answer["answer"] is None else answer["answer"]
        return harmless(f"{' '.join(said.split())}\t{' '.join(str(asked).split())}")
    if "probabilities" not in answer:
        from tunesmith.pictures.draw import LEAST_SCORE

        sure_ones = [box[4] for box in answer["predicted"] if box[5] >= LEAST_SCORE]
        counts = ", ".join(f"{sure_ones.count(name)} {name}" for name in dict.fromkeys(sure_ones))
        return harmless(f"{counts or 'nothing'}\t{answer['image']}")
    given = answer["predicted"]
    names = [given] if isinstance(given, str) else list(given)
    sure = ", ".join(f"{name} {answer['probabilities'][name]:.1%}" for name in names) or "none"
    text = " | ".join(str(answer[key]) for key in ("text", "text_pair", "image") if answer.get(key) is not None)
    return harmless(f"{sure}\t{' '.join(text.split())}")


def show_plugins(registry: Registry[Any], name: str | None) -> None:
    """Names with one line each, or one plugin's whole page. RecipeError for an unknown name."""
    console = Console(highlight=False)
    names = registry.names()
    if name is None:
        width = max(map(len, names), default=0)
        for each in names:
            console.print(f"[bold]{each:<{width}}[/]  {plain(registry.describe(each))}", soft_wrap=True)
    elif name in names:
        console.print(registry.page(name), markup=False, soft_wrap=True)
    else:
        raise RecipeError(f'nothing is named "{name}".{did_you_mean(name, names)} Known: {", ".join(names)}.')


def show_fitting(found: Sequence[tuple[str, int | str]]) -> None:
    """Each method with how many values it learns on a model, or why it does not work there."""
    console = Console(highlight=False)
    width = max((len(name) for name, _ in found), default=0)
    for name, learned in found:
        told = f"{learned:>14,} learned" if isinstance(learned, int) else f"{'-':>14}  {plain(learned)}"
        console.print(f"[bold]{name:<{width}}[/]  {told}", soft_wrap=True)


def show_fault(fault: TunesmithError) -> None:
    """A fault of the person's as one block on standard error."""
    title = next(words for kind, words in _TITLES if isinstance(fault, kind))
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{title}[/]")
    for line in str(fault).splitlines() or [type(fault).__name__]:
        console.print(f"  {plain(line)}", soft_wrap=True)


def show_crash(crash: BaseException) -> int:
    """A fault that is not the person's: what happened in one line, the traceback in a file. Returns the exit code."""
    if os.environ.get("TUNESMITH_DEBUG") == "1":
        traceback.print_exception(crash)
        return 70
    console = Console(stderr=True, highlight=False)
    if isinstance(crash, OSError) and crash.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        console.print(f"[bold red]the disk refused[/]\n  {plain(str(crash))}", soft_wrap=True)
        return 74
    with tempfile.NamedTemporaryFile("w", prefix="tunesmith-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(f"{' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(crash))}")
    console.print("[bold red]a fault inside tunesmith[/]")
    console.print(f"  {plain(f'{type(crash).__name__}: {crash}'[:500])}", soft_wrap=True)
    console.print(f"  The details are in {plain(file.name)}; please report them.", soft_wrap=True)
    return 70
