"""Compare methods and retentions on one recipe: every combination over some seeds, then one table, page and verdict.

Every run of a study is scored on the same test examples: `data.split.seed` stays as the recipe has it, and the seeds
of a study are those of the training alone (`train.seed`, then one more each), so what differs between seeds is the new
head's start, the order of the examples and dropout. A test that pairs examples needs exactly this.

    DIR/compare.json     what was asked, how every run stands, the table and the verdict as numbers
    DIR/compare.html     the page
    DIR/cells/ID/        a run folder each; ID ends in a hash of all that decides the run, so that runs are shared with
                         later comparisons in the same folder
    DIR/cells/ID.log     what its process said; ID.failed.json why it failed
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import InterruptedRun, RecipeError, RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.cell import CellEnded, CellEvent, OnEvent, Outcome
from tunesmith.run.compare.cells import run_cells
from tunesmith.run.compare.child import PROGRAM
from tunesmith.run.compare.environment import threads_for
from tunesmith.run.compare.judged import Judged, judge, scores_of
from tunesmith.run.compare.page import write_page
from tunesmith.run.compare.planned import Planned, base_recipe, default_folder, plan
from tunesmith.run.compare.verdict import Pair, Row, compare_pairs, put_on_front, summed_up
from tunesmith.run.compare.verdict_words import verdict
from tunesmith.run.folder import locked, write_json
from tunesmith.run.stopping import Stop, stop_on_signals
from tunesmith.train.checkpoint import disk_faults
from tunesmith.types import Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """A study's result: a row a method and retention, every two rows tested, the verdict, where the page lies.

    sentences: the verdict, the most telling first. over: what the front is over. notes: what a reader must know of how
    the runs were made. outcomes: how every run ended.
    """

    folder: Path
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    sentences: tuple[str, ...]
    over: tuple[str, ...]
    notes: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> str:
        """The verdict in plain words."""
        return " ".join(self.sentences)

    @property
    def page(self) -> Path:
        """compare.html, one file that loads nothing."""
        return self.folder / "compare.html"

    @property
    def exit_code(self) -> int:
        """0 when every run ended well; else the code on which all failed ones agree (70, 74, 76), or 2."""
        codes = {each.exit_code for each in self.outcomes if each.state == "failed"}
        return 0 if not codes else min(codes) if len(codes) == 1 and codes <= {70, 74, 76} else RunError.exit_code


def compare(
    recipe: Recipe | str | Path | None,
    *,
    methods: Sequence[str],
    seeds: int | Sequence[int] = 3,
    retentions: Sequence[str] = (),
    settings: Sequence[str] = (),
    folder: str | Path | None = None,
    jobs: int = 1,
    on_event: OnEvent | None = None,
    program: Sequence[str] = PROGRAM,
) -> Comparison:
    """Make every run that is not in the folder yet, `jobs` at a time, and compare them all.

    methods: names, with options after colons where the defaults are not meant (`lora:rank=16:alpha=32`); the recipe's
    own method keeps its options. retentions: alike, `none` for none; empty: the recipe's own. seeds: how many, from
    the recipe's `train.seed` on, or which. settings: dotted, for every run. folder: else runs/compare-NAME.

    RecipeError before anything runs, with every fault. A run that fails is named in the result and tried again next
    time. InterruptedRun on SIGINT or SIGTERM once the running processes have saved; the same call goes on.
    """
    base = base_recipe(recipe, settings)
    place = Path(folder) if folder is not None else default_folder(base, recipe)
    planned, notes = plan(base, methods, retentions, seeds, place / "cells", settings)
    if jobs < 1:
        raise RecipeError(f"--jobs {jobs}: at least one run at a time has to be made")
    with disk_faults(place):
        (place / "cells").mkdir(parents=True, exist_ok=True)
    with locked(place), stop_on_signals() as stop:
        ways = _ways(place, planned, jobs)
        asked = {"recipe": base.as_dict(), "methods": list(methods), "retentions": list(retentions),
                 "seeds": sorted({each.seed for each in planned}), "settings": list(settings)}  # fmt: skip
        write_json(place / "compare.json", asked | {"cells": _cells(planned, [], ways)})
        outcomes = _made(planned, place, jobs, stop, on_event, program)
        found = concluded(place, planned, outcomes, [*notes, *_at_once(planned, ways)])
        write_json(place / "compare.json", asked | {"cells": _cells(planned, outcomes, ways)} | as_json(found))
        write_page(found.page, base, rows=found.rows, pairs=found.pairs, sentences=found.sentences, over=found.over,
                   notes=found.notes)  # fmt: skip
    left = sum(each.state == "interrupted" for each in outcomes)
    if left:
        raise InterruptedRun(f"stopped with {left} of {len(outcomes)} runs to go; {_go_on(place)}")
    return found


def concluded(
    folder: Path, planned: Sequence[Planned], outcomes: Sequence[Outcome], notes: Sequence[str] = ()
) -> Comparison:
    """The comparison that these outcomes allow."""
    finished = [(each, out) for each, out in zip(planned, outcomes, strict=True) if out.state == "finished"]
    runs = judge([(out.folder, each.seed) for each, out in finished])
    judged = {each.folder: run for (each, _), run in zip(finished, runs, strict=True)}
    grouped: dict[tuple[str, str], list[tuple[Planned, Outcome]]] = {}
    for each, outcome in zip(planned, outcomes, strict=True):
        grouped.setdefault((each.method, each.retention), []).append((each, outcome))
    rows = [
        summed_up(
            method,
            retention,
            [judged[each.folder] for each, _ in some if each.folder in judged],
            [(each.seed, outcome.reason) for each, outcome in some if outcome.state == "failed"],
            sum(outcome.state == "interrupted" for _, outcome in some),
        )
        for (method, retention), some in grouped.items()
    ]
    rows, over = put_on_front(rows)
    pairs = compare_pairs(rows)
    told = [*notes, *_differences(list(judged.values()))]
    said = verdict(rows, pairs, over)
    return Comparison(folder, tuple(rows), tuple(pairs), tuple(said), tuple(over), tuple(told), tuple(outcomes))


def as_json(found: Comparison) -> dict[str, Any]:
    """Table, tests and verdict as JSON can hold them; what is not known is null."""
    rows = [
        {"method": row.method, "retention": row.retention, "seeds": [run.seed for run in row.runs],
         "score": _interval(row.score), "spread_over_seeds": row.spread,
         "forgetting": {name: _interval(each) for name, each in row.forgetting.items()},
         "broken": list(row.broken), "cost": dict(row.cost), "on_front": row.on_front, "failed": dict(row.failed)}
        for row in found.rows
    ]  # fmt: skip
    pairs = [{**asdict(pair), "difference": _interval(pair.difference), "p": _number(pair.p),
              "holm": _number(pair.holm)} for pair in found.pairs]  # fmt: skip
    return {"rows": rows, "pairs": pairs, "front_over": list(found.over), "notes": list(found.notes),
            "verdict": list(found.sentences)}  # fmt: skip


def _made(
    planned: Sequence[Planned], place: Path, jobs: int, stop: Stop, on_event: OnEvent | None, program: Sequence[str]
) -> list[Outcome]:
    """All runs. Of several at a time each gets its share of the cores, unless the environment or the recipe says."""
    work = [(each.cell, each.folder) for each in planned]

    def told(event: CellEvent) -> None:
        if isinstance(event, CellEnded) and event.outcome.state == "finished":
            scores_of(event.outcome.folder)  # what cannot be judged is said after the first run, not after the last
        if on_event is not None:
            on_event(event)

    stop.wait = True
    try:
        return run_cells(
            work, jobs=jobs, stop=lambda: stop.asked, on_event=told, program=program, environment=threads_for(jobs)
        )
    except InterruptedRun as again:  # a second signal does not wait
        raise InterruptedRun(f"stopped at once; {_go_on(place)}") from again
    finally:
        stop.wait = False


def _ways(place: Path, planned: Sequence[Planned], jobs: int) -> dict[str, int]:
    """How many runs went at once when each cell was made, by its folder's name: a finished one keeps what was noted."""
    try:
        before = json.loads((place / "compare.json").read_text(encoding="utf-8"))["cells"]
        noted = {str(each["folder"]): int(each["at_once"]) for each in before}
    except (OSError, ValueError, KeyError, TypeError):
        noted = {}
    done = {each.folder.name for each in planned if (each.folder / "scores.json").is_file()}
    kept = {name: at_once for name, at_once in noted.items() if name in done}
    return {each.folder.name: jobs for each in planned} | {name: kept.get(name, 1) for name in done}


def _cells(planned: Sequence[Planned], outcomes: Sequence[Outcome], ways: Mapping[str, int]) -> list[dict[str, Any]]:
    told = []
    for number, each in enumerate(planned):
        outcome = outcomes[number] if outcomes else None
        state = {"state": "planned"} if outcome is None else {"state": outcome.state, "exit_code": outcome.exit_code,
                                                              "reason": outcome.reason}  # fmt: skip
        name = each.folder.name
        told.append({"method": each.method, "retention": each.retention, "seed": each.seed, "folder": name,
                     "at_once": ways[name], **state})  # fmt: skip
    return told


def _at_once(planned: Sequence[Planned], ways: Mapping[str, int]) -> list[str]:
    most = max((ways[each.folder.name] for each in planned), default=1)
    return [] if most == 1 else [f"Up to {most} runs shared this machine: seconds are those of shared cores."]


def _differences(runs: Sequence[Judged]) -> list[str]:
    """What of their making differs between runs that should differ in method, retention and seed only."""
    notes = []
    packages = ("tunesmith", "torch", "transformers", "peft", "timm")
    versions = {json.dumps({p: (run.manifest.get("versions") or {}).get(p) for p in packages}) for run in runs}
    if len(versions) > 1:
        notes.append("The runs were made with different versions of tunesmith or its libraries.")
    if len({run.manifest.get("threads") for run in runs}) > 1:
        notes.append("The runs used different numbers of threads: their seconds do not compare exactly.")
    if len({run.key for run in runs}) > 1:
        notes.append("Not all runs were scored on the same test examples; those that were not are not tested.")
    if any(run.scores.get("part") == "validation" for run in runs):
        notes.append("There is no test part: scores are those of the validation examples, which chose the checkpoints.")
    return notes


def _interval(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [_number(end) for end in (interval.value, interval.low, interval.high)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _go_on(place: Path) -> str:
    return f"what is done is kept in {place}, and the same command goes on"
