"""Which pretrained model to start from: filtered by its card, then ranked by evidence on the person's own data.

read the data -> a stratified sample of the training part -> each candidate measured in a process of its own
(`candidate.py`) -> probe, LogME and H-score on its features -> in order. Nothing is fetched, nothing is trained for
good, and the test part is never looked at.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tunesmith.data.load_for import load_for
from tunesmith.errors import ModelError, RecipeError
from tunesmith.events import Event, Stage
from tunesmith.metrics.transfer import h_score, linear_probe, logme
from tunesmith.models.candidates import LeftOut, find_candidates
from tunesmith.models.cards import ModelCard, licence_id
from tunesmith.models.tokenizer_fit import TokenizerFit
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import locked
from tunesmith.run.select.candidate import ROWS, write_rows
from tunesmith.run.select.measured import Measured, measured_apart
from tunesmith.run.select.sample import Sample, sample_of
from tunesmith.run.select.selection import Row, Selection
from tunesmith.train.checkpoint import disk_faults

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep. parameters: at most so many. memory: bytes that answering may take at its peak.
    language: as cards name it (`en`, `zh`). licence: as SPDX writes it (`apache-2.0`)."""

    parameters: int | None = None
    memory: int | None = None
    language: str | None = None
    licence: str | None = None


def select(
    task: str,
    data: str,
    *,
    settings: Sequence[str] = (),
    limits: Limits | None = None,
    places: Sequence[str] = (),
    everywhere: bool = True,
    rows: int = 1000,
    folder: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Selection:
    """Rank the models at hand for a task on somebody's data.

    settings: `data.` and `task.` keys of a recipe. places, everywhere: see `find_candidates`. rows: examples measured
    on. folder: keeps each candidate's measurements, so that a selection that was cut off goes on with the same words.
    RecipeError, DataError or ModelError where the words, the data, or every candidate cannot be used; FolderInUseError
    where another selection works in that folder.
    """
    limits = limits or Limits()
    if odd := [each for each in settings if not each.startswith(("data.", "task."))]:
        raise RecipeError(
            f"{odd[0]}: a selection reads data. and task. settings only, such as data.columns.text=review."
        )
    recipe = Recipe.read(None, f"task={task}", "model=none", f"data.path={data}", *settings)
    if not recipe.task.learns_classes:
        raise RecipeError(
            f"select ranks models by how well their features tell classes apart, and {task} has none. Compare the "
            "models at hand by short runs instead: tunesmith compare, or fit with --max-time."
        )
    if limits.language and not recipe.task.in_tokens:
        raise RecipeError(f"--language {limits.language} says nothing about models of pictures. Leave it out.")
    with ExitStack() as stack:
        work = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-select-")))
            if folder is None
            else folder
        )
        on_event(Stage("looking for models at hand"))
        found = find_candidates(places, everywhere=everywhere)
        cards, left_out = _filtered(found.cards, task, limits)
        if not cards:
            raise ModelError(_nothing([*found.left_out, *left_out], places))
        with disk_faults(work):
            work.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(work))
        on_event(Stage("reading the data"))
        dataset = load_for(recipe.task.kind, recipe.data, work / "data", inputs=recipe.task.input_columns)
        sample = sample_of(recipe, dataset, rows, work)
        write_rows(sample.examples, work / ROWS)
        ranked, failed = _ranked(cards, sample, limits, work, on_event)
    busy = _busy()
    return Selection(
        task=task,
        data=data,
        score=sample.score,
        noun=sample.noun,
        examples=len(sample.examples),
        classes=len(sample.labels),
        chance=None if sample.multi_label else float(np.bincount(sample.targets).max() / len(sample.targets)),
        rows=tuple(ranked),
        left_out=(*found.left_out, *left_out, *failed),
        notes=(*sample.notes, *busy, *dataset.summary.notes),
        settings=tuple(settings),
        busy=bool(busy),
    )


def _busy() -> list[str]:
    """A remark where other work was going on: speeds are then too low, and not by the same share for all."""
    load, cores = os.getloadavg()[1] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load <= 1.25 * cores:
        return []
    return [f"{load:.1f} processes shared {cores} cores in the last five minutes: speeds are lower than they could be"]


def _filtered(cards: Sequence[ModelCard], task: str, limits: Limits) -> tuple[list[ModelCard], list[LeftOut]]:
    kept, left_out = [], []
    for card in cards:
        reason = _against(card, task, limits)
        if reason is None:
            kept.append(card)
        elif task in card.tasks or card.where.startswith("named"):
            left_out.append(LeftOut(card.name, reason))
    return kept, left_out


def _against(card: ModelCard, task: str, limits: Limits) -> str | None:
    """Why a card speaks against a model; None where it does not."""
    if task not in card.tasks:
        return f"{card.architecture or 'its architecture'} cannot be used for {task}"
    if task == "object_detection" and "image_classification" not in card.tasks:
        return "it is a detector; only backbones can be compared here, on cut-out objects"
    size = card.parameters
    if limits.parameters and size is not None and size > limits.parameters:
        return f"{size:,} parameters are more than --max-params {limits.parameters:,}"
    if limits.memory and size is not None and 4 * size > limits.memory:
        return f"its weights alone take {4 * size / MIB:,.0f} MiB, more than --memory {limits.memory / MIB:,.0f} MiB"
    if limits.licence and card.licence_id != licence_id(limits.licence):
        return f"its licence is {card.licence or 'not known'}, not {limits.licence}"
    if limits.language and card.speaks(limits.language) is False:
        return f"its card names the languages {', '.join(card.languages)}, not {limits.language}"
    return None


def _nothing(left_out: Sequence[LeftOut], places: Sequence[str]) -> str:
    told = "".join(f"\n{each.name}: {each.reason}" for each in left_out)
    where = "" if places else " Name a folder with models (--from FOLDER), or fetch one with `hf download`."
    return f"No model at hand can be compared.{where}{told}"


def _ranked(
    cards: Sequence[ModelCard], sample: Sample, limits: Limits, work: Path, on_event: Callable[[Event], None]
) -> tuple[list[Row], list[LeftOut]]:
    rows: list[tuple[Row, np.ndarray]] = []
    failed: list[LeftOut] = []
    for number, card in enumerate(cards, 1):
        on_event(Stage(f"measuring {number} of {len(cards)}: {card.name}"))
        try:
            found = measured_apart(card, sample, work)
            if limits.memory and found.result["answering_mib"] > limits.memory / MIB:
                raise ModelError(
                    f"it took {found.result['answering_mib']:,.0f} MiB to answer, more than --memory "
                    f"{limits.memory / MIB:,.0f} MiB"
                )
            rows.append(_row(card, found, sample, limits))
        except ModelError as reason:
            failed.append(LeftOut(card.name, " ".join(str(reason).split())))
    if not rows:
        raise ModelError(_nothing(failed, ["named"]))
    # LogME decides between equal probes (all of them right, on easy data)
    rows.sort(key=lambda pair: (-pair[0].probe.value, -pair[0].logme))
    first = rows[0][1]
    made = [rows[0][0]]
    for row, logits in rows[1:]:
        _, _, gap = sample.task.intervals(first, logits, sample.targets, sample.labels, None, seed=0)
        made.append(replace(row, behind=gap))
    return made, failed


def _row(card: ModelCard, found: Measured, sample: Sample, limits: Limits) -> tuple[Row, np.ndarray]:
    result = found.result
    logits = {way: linear_probe(f, sample.targets, len(sample.labels)) for way, f in found.features.items()}
    scores = {way: sample.task.score(each, sample.targets, sample.labels) for way, each in logits.items()}
    order = sorted(scores, key=lambda way: (-scores[way][sample.score], scores[way]["nll"]))
    best = order[0]
    features = found.features[best]
    _, interval, _ = sample.task.intervals(None, logits[best], sample.targets, sample.labels, None, seed=0)
    remark = result["training_reason"]
    if limits.memory and result["training_mib"] and result["training_mib"] > limits.memory / MIB:
        remark = f"full fine-tuning is over --memory {limits.memory / MIB:,.0f} MiB: choose lora or head"
    row = Row(
        card=card,
        parameters=result["parameters"],
        probe=interval,
        ways={way: scores[way][sample.score] for way in order},
        scores={name: value for name, value in scores[best].items() if "/" not in name},
        width=features.shape[1],
        logme=logme(features, sample.targets),
        h_score=None if sample.multi_label else h_score(features, sample.targets, shrunk=True),
        examples_a_second=result["examples_a_second"],
        answering_mib=result["answering_mib"],
        training=result["training"],
        training_mib=result["training_mib"],
        remark=remark,
        tokenizer=None if result["tokenizer"] is None else TokenizerFit(**result["tokenizer"]),
    )
    return row, logits[best]
