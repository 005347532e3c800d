"""What of the data a model can learn: the rest goes to quarantine with its reason, and over-long examples are split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.encoded import lots
from tunesmith.data.parts import PARTS
from tunesmith.data.quarantine import add_to_quarantine
from tunesmith.data.sifted import SiftedExamples, windows
from tunesmith.errors import DataError
from tunesmith.pulse import pulse
from tunesmith.tasks.base import Task
from tunesmith.types import Dataset, DataSummary, Example, Examples


def sifted(task: Task, dataset: Dataset, processor: Any) -> Dataset:
    """The data without what the task cannot learn from, its summary in step: the law holds. DataError where nothing
    is left to train on."""
    if not task.sifts:
        return dataset
    parts: dict[str, Examples] = {}
    out: Counter[str] = Counter()
    reasons: list[str] = []
    split = 0
    for name in PARTS:
        whole: Examples = getattr(dataset, name)
        taken: list[tuple[int, int, int]] = []
        for number, (example, found) in enumerate(_decided(task, whole, processor)):
            if isinstance(found, str):
                add_to_quarantine(dataset.folder, example.file, example.line, found, dict(example.inputs))
                out[example.file] += 1
                reasons.append(found)
                continue
            taken += windows(number, found)
            split += max(found) > 0
        same = len(taken) == len(whole) and not any(count > 1 for _, _, count in taken)
        parts[name] = whole if same else SiftedExamples(whole, taken)
    if not len(parts["train"]):
        first = f" The first reason: {reasons[0]}." if reasons else ""
        raise DataError(f"no example is left that this model could learn from.{first}")
    summary = _in_step(dataset.summary, parts, out, reasons, split)
    train, validation, test = (parts[name] for name in PARTS)
    return replace(dataset, train=train, validation=validation, test=test, summary=summary)


def _decided(task: Task, whole: Examples, processor: Any) -> Iterator[tuple[Example, tuple[int, ...] | str]]:
    done = 0
    for some in lots(whole):
        pulse(done, len(whole))
        yield from zip(some, task.sift(some, processor), strict=True)
        done += len(some)


def _in_step(
    summary: DataSummary, parts: Mapping[str, Examples], out: Counter[str], reasons: list[str], split: int
) -> DataSummary:
    notes = []
    if reasons:
        why = "; ".join(f"{count:,}: {reason}" for reason, count in Counter(reasons).most_common(3))
        notes.append(f"{len(reasons):,} examples cannot be learned from and are in quarantine.jsonl ({why}).")
    if split:
        notes.append(f"{split:,} examples are longer than task.max_length and were split; parts count the pieces.")
    return replace(
        summary,
        used=summary.used - len(reasons),
        quarantined=summary.quarantined + len(reasons),
        files=tuple(_file(facts, out) for facts in summary.files),
        split_sizes={name: len(examples) for name, examples in parts.items()},
        notes=(*notes, *summary.notes),
    )


def _file(facts: Mapping[str, Any], out: Counter[str]) -> Mapping[str, Any]:
    gone = min(out.pop(str(facts["file"]), 0), int(facts["used"]))
    return {**facts, "used": facts["used"] - gone, "quarantined": facts["quarantined"] + gone} if gone else facts
