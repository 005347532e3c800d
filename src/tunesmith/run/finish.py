"""The end of a run: the best state is restored, scored on held-out examples, delivered, and written up."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tunesmith.evaluate.calibration import fit_temperature
from tunesmith.evaluate.evaluate import Part, logits_of
from tunesmith.forgetting.measures import note_choice
from tunesmith.methods.base import Method
from tunesmith.metrics import classification
from tunesmith.models.quantised import weights_in
from tunesmith.models.quiet import quiet
from tunesmith.models.whole import write_whole
from tunesmith.run.answered import add_answers, answered_after
from tunesmith.run.card import write_card
from tunesmith.run.folder import write_json
from tunesmith.run.forecast import kept_forecast
from tunesmith.run.forgotten import Guard, hold_at_end, summed_up
from tunesmith.run.report import write_report
from tunesmith.run.setup import Learning, Ready
from tunesmith.run.spent import Spent, against
from tunesmith.run.thumbnails import keep_thumbnails
from tunesmith.train.averaging import Average
from tunesmith.train.checkpoint import checkpoint_at, disk_faults, load_checkpoint, restore_tensors, write_atomically
from tunesmith.train.loop import Progress
from tunesmith.train.memory import peak_mib

_MIB = 1024 * 1024


def keep_quarantine(ready: Ready, folder: Path) -> None:
    """Copy the rows that were not used to the run folder."""
    found = ready.dataset.folder / "quarantine.jsonl"
    if ready.device.is_main and found.is_file():
        with disk_faults(folder):
            shutil.copyfile(found, folder / "quarantine.jsonl")


def scored_part(ready: Ready) -> tuple[str, Part]:
    """The part that the scores before and after are taken on: the test, or where there is none the validation."""
    name = "test" if len(ready.parts["test"].encoded) else "validation"
    return name, ready.parts[name]


def score_before(ready: Ready, folder: Path) -> Mapping[str, float]:
    """Scores of the untouched model, kept in the run folder so that a resumed run does not take them again."""
    kept = folder / "predictions" / "before.json"
    if ready.device.agree(kept.is_file() and kept.with_suffix(".npy").is_file()):
        found: Mapping[str, float] = json.loads(kept.read_text(encoding="utf-8"))["scores"]
        return found
    name, part = scored_part(ready)
    if not len(part.encoded):
        return {}
    logits = _logits(ready, ready.pretrained.model, part)
    scores = ready.recipe.task.score(logits, part.targets, part.labels)
    if ready.device.is_main:
        with disk_faults(folder):
            kept.parent.mkdir(exist_ok=True)
            np.save(kept.with_suffix(".npy"), logits)
        _write_predictions(ready, folder, name, "before", logits, None)
        write_json(kept, {"part": name, "scores": scores})
    return scores


def finish(
    ready: Ready,
    learning: Learning,
    guarded: Guard,
    progress: Progress,
    average: Average,
    folder: Path,
    spent: Spent,
) -> None:
    """Restore the best state, score it, write `best/`, predictions, scores.json, the card and the report."""
    began = time.perf_counter()
    train = ready.recipe.train
    best = progress.best_step if train.keep_best and progress.best_step else progress.step
    if best != progress.step:
        saved = load_checkpoint(checkpoint_at(folder / "checkpoints", best))
        group = "average" if average.tensors else "learned"
        restore_tensors(learning.learned, saved.tensors[group], what=str(saved.folder))
        ready.recipe.method.restore(learning.model, saved.tensors["method"])
    else:
        average.settle()
    ready.device.precision = "float32"
    retained = hold_at_end(ready, learning, guarded)
    old_tasks = summed_up(ready, learning, guarded, folder)
    ruled = ["forgetting.at_most"] if ready.recipe.forgetting.at_most is not None else []
    note_choice(old_tasks, [*ruled, *([str(retained["name"])] if retained else [])])
    name, part = scored_part(ready)
    validation = ready.parts["validation"]
    model = final_model(ready, learning)
    held = _logits(ready, model, validation) if len(validation.encoded) else None
    logits = _logits(ready, model, part) if name == "test" or held is None else held
    in_words = answered_after(ready, model, folder)
    if not ready.device.is_main:
        return
    learning.model.eval()
    deliver(ready, learning, folder / "best")
    task = ready.recipe.task
    calibrated = task.calibrated
    temperature = fit_temperature(held, validation.targets) if held is not None and calibrated else None
    thresholds = None
    if ready.dataset.multi_label and calibrated:
        thresholds = (np.zeros(len(part.labels)) if held is None
                      else classification.tune_thresholds(held, validation.targets))  # fmt: skip
    # Thresholds fitted to the validation part say nothing about it: there, answers are those above even odds.
    even = None if thresholds is None else np.zeros_like(thresholds)
    asked = thresholds if name == "test" else even
    write_json(
        folder / "best" / "tunesmith.json",
        {
            "labels": list(part.labels),
            "multi_label": ready.dataset.multi_label,
            "max_length": getattr(ready.recipe.task, "max_length", None),
            "temperature": temperature,
            "thresholds": None if thresholds is None else thresholds.tolist(),
            "paired": ready.dataset.train[0].inputs.get("text_pair") is not None,
        },
    )
    scores: dict[str, Any] = {
        "main_score": {"name": learning.plan.main_score.name, "better": learning.plan.main_score.better},
        "part": name,
        "best_step": best,
        "validation": {} if held is None else task.score(held, validation.targets, validation.labels, even),
        "temperature": temperature,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "old_tasks": old_tasks,
        **({"retention": retained} if retained is not None else {}),
    }
    if len(part.encoded):
        _write_predictions(ready, folder, name, "after", logits, asked)
        if details := ready.recipe.task.details(logits, part.targets, part.labels):
            write_json(folder / "predictions" / "detection.json", details)
        scores |= _compared(ready, learning, part, folder, logits, asked)
    add_answers(scores, in_words)
    spent.add("ending", time.perf_counter() - began)
    cost = _cost(learning, progress, folder)
    scores["cost"] = cost | against(kept_forecast(folder), spent.seconds, training=progress.seconds)
    # scores.json says that a run is finished, so it comes last but for what only reads the folder.
    write_json(folder / "scores.json", scores)
    write_card(folder)
    write_report(folder)


def deliver(ready: Ready, learning: Learning, folder: Path) -> None:
    """Write what a plain transformers (and peft) program loads: weights or adapter, configuration, tokenizer."""
    with disk_faults(folder), quiet():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        task, method = ready.recipe.task, ready.recipe.method
        if task.delivers_whole and _is_beside(method):
            write_whole(final_model(ready, learning), folder, ready.pretrained)
            method.save(learning.model, folder / "adapter", ready.pretrained)
        else:
            method.save(learning.model, folder, ready.pretrained)
        task.write_companions(ready.pretrained, folder)


def _is_beside(method: Method) -> bool:
    """Whether what is learned stands beside the pretrained weights, to be merged into them."""
    return method.adapter and not method.only_head


def final_model(ready: Ready, learning: Learning) -> nn.Module:
    """The model that is scored and delivered: the trained one, or where the task says so a merged copy of it."""
    method = ready.recipe.method
    merged = ready.recipe.task.delivers_whole and _is_beside(method)
    return method.merge(learning.model).eval() if merged else learning.model


def _logits(ready: Ready, model: Any, part: Part) -> np.ndarray:
    processor, device = ready.pretrained.processor, ready.device
    return logits_of(model, part.encoded, task=ready.recipe.task, processor=processor, device=device)


def _compared(
    ready: Ready, learning: Learning, part: Part, folder: Path, logits: np.ndarray, thresholds: np.ndarray | None
) -> dict[str, Any]:
    """Scores before and after, the intervals of the main score, and that of their difference on the same examples."""
    task, main = ready.recipe.task, learning.plan.main_score.name
    kept = json.loads((folder / "predictions" / "before.json").read_text(encoding="utf-8"))
    earlier, seed = np.load(folder / "predictions" / "before.npy", allow_pickle=False), ready.recipe.train.seed
    before, after, gain = task.intervals(earlier, logits, part.targets, part.labels, thresholds, seed=seed)
    assert before is not None and gain is not None
    return {
        "before": kept["scores"],
        "after": task.score(logits, part.targets, part.labels, thresholds),
        "intervals": {when: {main: [span.low, span.high]} for when, span in (("before", before), ("after", after))},
        "difference": {main: [gain.value, gain.low, gain.high]},
    }


def _cost(learning: Learning, progress: Progress, folder: Path) -> dict[str, float]:
    weights = [p for p in (folder / "best").glob("*.safetensors")]
    return {
        "learned": sum(t.numel() for t in learning.learned.values() if t.requires_grad),
        "total": sum(weights_in(p) for p in learning.model.parameters()),
        "seconds": progress.seconds,
        "peak_mib": peak_mib(),
        "file_mib": sum(p.stat().st_size for p in weights) / _MIB,
    }


def _write_predictions(
    ready: Ready, folder: Path, name: str, when: str, logits: np.ndarray, thresholds: np.ndarray | None
) -> None:
    """predictions/test_WHEN.jsonl: each held-out example with its label and the answer; pictures with a thumbnail of
    those that a report shows."""
    task, labels, examples = ready.recipe.task, ready.dataset.labels, getattr(ready.dataset, name)
    multi = ready.dataset.multi_label
    rated = task.rated(logits, ready.parts[name].targets)
    known = task.records(examples, logits, labels, thresholds, multi_label=multi)
    records: Iterable[dict[str, Any]] = (each | more for each, more in zip(known, rated, strict=True))
    if not task.in_tokens and when == "after":
        records = list(records)
        keep_thumbnails(records, folder / "predictions", labels)
    lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    write_atomically(folder / "predictions" / f"test_{when}.jsonl", lines)
