"""An earlier run as an old task: its head, its task and its data, or new data for the same classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.load_for import load_for
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError, ModelError, RunError, TunesmithError
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.headed import Headed, head_of
from tunesmith.forgetting.work import CHOSEN, OldParts
from tunesmith.models.quiet import quiet
from tunesmith.recipe.recipe import Recipe
from tunesmith.tasks.base import Task
from tunesmith.types import Dataset, Examples

READS = {
    "texts": "texts",
    "images": "pictures with labels",
    "boxes": "pictures with boxes",
    "chats": "conversations or texts to go on with",
    "preferences": "answers of which one is preferred",
}
"""What tasks of each kind read, in words."""


def is_run(source: str) -> bool:
    """Whether a source names a run folder, finished or not."""
    return (Path(source) / "recipe.yaml").is_file()


def open_run_task(source: str, data: DataOptions | None, opening: Opening) -> Headed:
    """The old task of the run in folder `source`. RunError, DataError or ModelError, with what to do, where it is not
    finished, its files are gone, its data have changed, or its head does not fit the new model."""
    folder, whose = Path(source), f"the old task {opening.name} ({source})"
    facts, scores, manifest = (run_facts(folder, name, whose) for name in _NEEDED)
    recipe = Recipe.read(folder / "recipe.yaml")
    task = recipe.task
    check_kind(task, opening, whose)
    labels, multi_label = tuple(facts["labels"]), bool(facts["multi_label"])
    dataset = old_data(task, data or recipe.data, opening, labels, multi_label=multi_label, whose=whose)
    if data is None:
        check_same(dataset, manifest, whose)
    try:
        with quiet():
            model, processor = task.read(folder / "best")
    except (ModelError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise RunError(f"{whose}: its model cannot be read: {' '.join(str(error).split())[:300]}") from error
    head = head_of(model, opening.pretrained, labels, multi_label=multi_label, whose=whose)
    del model
    parts = OldParts(task, dataset, labels, processor, opening.folder, rows=opening.rows)
    check_processor(processor, opening, dataset, whose)
    # Thresholds fitted to the run's validation part say nothing about it, where that is what it is scored on.
    even = data is None and scores.get("part") == CHOSEN and facts["thresholds"] is not None
    opened = Headed("run", opening, task, head, parts, thresholds=None if even else facts["thresholds"])
    told = scores.get("after", {}).get(opened.main.name)
    reported = (
        "" if told is None else f" That run reported {told:.4f} of its own model on its {scores['part']} examples."
    )
    odds = " A class is answered above even odds: the run's thresholds were fitted to these examples." if even else ""
    opened.definition = definition(opened, dataset, f"the head of the run {folder}") + odds + reported
    return opened


_NEEDED = ("best/tunesmith.json", "scores.json", "manifest.json")


def run_facts(folder: Path, name: str, whose: str) -> dict[str, Any]:
    """A JSON file of a finished run. RunError where it has not finished, or the file is gone."""
    if not (folder / "scores.json").is_file():
        raise RunError(f"{whose} has not finished. Go on with: tunesmith resume {folder}")
    try:
        found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{whose}: {folder / name} cannot be read ({error}). The run folder is not whole: bring the file back, or "
            "train that run again."
        ) from error
    return found


def check_kind(task: Task, opening: Opening, whose: str) -> None:
    """DataError unless the old task reads what the new one reads."""
    if task.kind != opening.task.kind:
        raise DataError(
            f"{whose} reads {READS[task.kind]}, and this run's model {READS[opening.task.kind]}: one model cannot do "
            "both. Name an old task of the same kind, or leave it out."
        )


def old_data(
    task: Task, options: DataOptions, opening: Opening, labels: Sequence[str], *, multi_label: bool, whose: str
) -> Dataset:
    """The old task's data, read and split as its own options say. DataError where they cannot be used with its classes.

    labels: those of the head; empty: those of the data.
    """
    options = options.model_copy(update={"multi_label": True}) if multi_label else options
    try:
        dataset = load_for(task.kind, options, opening.folder, inputs=task.input_columns)
    except TunesmithError as fault:
        raise DataError(f"{whose}: its data cannot be used. {fault}") from fault
    unknown = [label for label in dataset.labels if label not in labels] if labels else []
    if unknown or (labels and dataset.multi_label != multi_label):
        found = (
            f'the class "{unknown[0]}"'
            if unknown
            else "several classes a row"
            if dataset.multi_label
            else "one class a row"
        )
        raise DataError(
            f"{whose}: its data have {found}, which its head does not know. It knows {', '.join(labels)}"
            f"{' (several a row)' if multi_label else ''}."
        )
    if not len(dataset.test) and not len(dataset.validation):
        raise DataError(
            f"{whose} has no examples that it did not learn from: name some with data: {{path: ..., test: FILE}}, or "
            "give data.split.test a share."
        )
    return dataset


def check_same(dataset: Dataset, manifest: dict[str, Any], whose: str) -> None:
    """DataError unless files and split are those that the run was trained and scored on."""
    changed = [name for name, told in manifest["data"]["sha256"].items() if dataset.summary.sha256.get(name) != told]
    changed += [name for name in dataset.summary.sha256 if name not in manifest["data"]["sha256"]]
    if changed:
        raise DataError(
            f"{whose}: its data have changed since it was trained ({', '.join(changed[:3])}), so what it learned from "
            "and what it is scored on could mix. Put the files back, or name other examples with data."
        )
    moved = [
        part for part in ("train", "validation", "test") if _differs(getattr(dataset, part), manifest["split"][part])
    ]
    if moved:
        raise DataError(
            f"{whose}: its data are split otherwise today ({', '.join(moved)}) than when it was trained, so rows that "
            "it learned from could be scored. Name examples that it has not seen with data."
        )


def _differs(examples: Examples, told: str) -> bool:
    return hasattr(examples, "membership_sha256") and examples.membership_sha256() != told


def check_processor(old: Any, opening: Opening, dataset: Dataset, whose: str) -> None:
    """ModelError unless the old tokenizer gives the very tokens of the new one, by vocabulary and on the old texts."""
    new = opening.pretrained.processor
    if opening.task.kind != "texts" or old is new:
        return
    held = dataset.test if len(dataset.test) else dataset.validation
    texts = [str(held[i].inputs["text"]) for i in range(min(64, len(held)))]
    same = old.get_vocab() == new.get_vocab() and old(texts)["input_ids"] == new(texts)["input_ids"]
    if not same:
        raise ModelError(
            f"{whose} cuts texts into other tokens than this run's model, so its head would be asked about other "
            "inputs. Start from the old run's model or from the one that it started from, or leave this old task out."
        )


def definition(opened: Headed, dataset: Dataset, with_what: str) -> str:
    """What the main score is, in a sentence."""
    part = opened.parts[0]
    whole, rows = len(getattr(dataset, part)), opened.rows(part)
    count = f"all {rows:,}" if rows == whole else f"{rows:,} of {whole:,}"
    return f"{opened.main.name} of this run's model with {with_what} on {count} {part} examples of the old task."
