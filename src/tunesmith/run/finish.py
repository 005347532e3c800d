"""The end of a run: the best state is restored, scored on held-out examples, delivered, and written up."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.evaluate.calibration import fit_temperature
from tunesmith.evaluate.evaluate import Part, logits_of
from tunesmith.metrics import classification, interval
from tunesmith.models.quiet import quiet
from tunesmith.run.card import write_card
from tunesmith.run.folder import write_json
from tunesmith.run.report import write_report
from tunesmith.run.setup import Learning, Ready
from tunesmith.train.checkpoint import checkpoint_at, disk_faults, load_checkpoint, restore_tensors, write_atomically
from tunesmith.train.loop import Progress

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
    if ready.device.agree(kept.is_file()):
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
        _write_predictions(ready, folder, name, "before", logits, None)
        write_json(kept, {"part": name, "scores": scores, "logits": logits.astype(float).round(6).tolist()})
    return scores


def finish(ready: Ready, learning: Learning, progress: Progress, folder: Path) -> None:
    """Restore the best state, score it, write `best/`, predictions, scores.json, the card and the report."""
    train = ready.recipe.train
    best = progress.best_step if train.keep_best and progress.best_step else progress.step
    if best != progress.step:
        saved = load_checkpoint(checkpoint_at(folder / "checkpoints", best))
        restore_tensors(learning.learned, saved.tensors["learned"], what=str(saved.folder))
        ready.recipe.method.restore(learning.model, saved.tensors["method"])
    ready.device.precision = "float32"
    name, part = scored_part(ready)
    validation = ready.parts["validation"]
    held = _logits(ready, learning.model, validation) if len(validation.encoded) else None
    logits = _logits(ready, learning.model, part) if name == "test" or held is None else held
    if not ready.device.is_main:
        return
    learning.model.eval()
    deliver(ready, learning, folder / "best")
    temperature = fit_temperature(held, validation.targets) if held is not None else None
    thresholds = None
    if ready.dataset.multi_label:
        thresholds = (np.zeros(len(part.labels)) if held is None
                      else classification.tune_thresholds(held, validation.targets))  # fmt: skip
    write_json(
        folder / "best" / "tunesmith.json",
        {
            "labels": list(part.labels),
            "multi_label": ready.dataset.multi_label,
            "max_length": getattr(ready.recipe.task, "max_length", None),
            "temperature": temperature,
            "thresholds": None if thresholds is None else thresholds.tolist(),
        },
    )
    scores: dict[str, Any] = {
        "main_score": {"name": learning.plan.main_score.name, "better": learning.plan.main_score.better},
        "part": name,
        "best_step": best,
        "temperature": temperature,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "cost": _cost(learning, progress, folder),
    }
    if len(part.encoded):
        _write_predictions(ready, folder, name, "after", logits, thresholds)
        scores |= _compared(ready, learning, part, folder, logits, thresholds)
    # scores.json says that a run is finished, so it comes last but for what only reads the folder.
    write_json(folder / "scores.json", scores)
    write_card(folder)
    write_report(folder)


def deliver(ready: Ready, learning: Learning, folder: Path) -> None:
    """Write what a plain transformers (and peft) program loads: weights or adapter, configuration, tokenizer."""
    with disk_faults(folder), quiet():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        ready.recipe.method.save(learning.model, folder, ready.pretrained)
        if not (folder / "config.json").exists():
            ready.pretrained.model.config.save_pretrained(folder)  # type: ignore[operator,union-attr]
        ready.pretrained.processor.save_pretrained(folder)


def _logits(ready: Ready, model: Any, part: Part) -> np.ndarray:
    processor, device = ready.pretrained.processor, ready.device
    return logits_of(model, part.encoded, task=ready.recipe.task, processor=processor, device=device)


def _compared(
    ready: Ready, learning: Learning, part: Part, folder: Path, logits: np.ndarray, thresholds: np.ndarray | None
) -> dict[str, Any]:
    """Scores before and after, the intervals of the main score, and that of their difference on the same examples."""
    task, main = ready.recipe.task, learning.plan.main_score.name
    kept = json.loads((folder / "predictions" / "before.json").read_text(encoding="utf-8"))
    earlier = np.array(kept["logits"])

    def statistic(values: np.ndarray, targets: np.ndarray) -> float:
        return task.score(values, targets, part.labels)[main]

    fast = classification.accuracy if main == "accuracy" else statistic
    # A class is answered above its threshold: with thresholds taken off the logits, one rule serves before and after.
    shifted = logits if thresholds is None else logits - thresholds
    seed = ready.recipe.train.seed
    spans = {
        when: interval.bootstrap(fast, values, part.targets, seed=seed)
        for when, values in (("before", earlier), ("after", shifted))
    }
    gain = interval.paired_difference(fast, earlier, shifted, part.targets, seed=seed)
    return {
        "before": kept["scores"],
        "after": task.score(logits, part.targets, part.labels, thresholds),
        "intervals": {when: {main: [span.low, span.high]} for when, span in spans.items()},
        "difference": {main: [gain.value, gain.low, gain.high]},
    }


def _cost(learning: Learning, progress: Progress, folder: Path) -> dict[str, float]:
    weights = [p for p in (folder / "best").glob("*.safetensors")]
    return {
        "learned": sum(t.numel() for t in learning.learned.values()),
        "total": sum(p.numel() for p in learning.model.parameters()),
        "seconds": progress.seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_mib": sum(p.stat().st_size for p in weights) / _MIB,
    }


def _write_predictions(
    ready: Ready, folder: Path, name: str, when: str, logits: np.ndarray, thresholds: np.ndarray | None
) -> None:
    """predictions/test_WHEN.jsonl: each held-out example with its label, the answer and the probabilities."""
    task, labels = ready.recipe.task, ready.dataset.labels
    multi = ready.dataset.multi_label
    if multi and thresholds is None:
        thresholds = np.zeros(len(labels))
    probabilities = classification.sigmoid(logits) if multi else classification.softmax(logits)
    answers = task.predictions(logits, labels, thresholds)

    def lines() -> Iterator[str]:
        for example, answer, row in zip(getattr(ready.dataset, name), answers, probabilities, strict=True):
            record = {
                **example.inputs,
                "label": example.label,
                "predicted": answer.label,
                "probabilities": [round(float(p), 6) for p in row],
                "file": example.file,
                "line": example.line,
            }
            yield json.dumps(record, ensure_ascii=False)

    write_atomically(folder / "predictions" / f"test_{when}.jsonl", "".join(f"{line}\n" for line in lines()))
