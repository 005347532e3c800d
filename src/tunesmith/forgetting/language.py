"""Old tasks of a run that tunes a language model. READ FIRST of the files on language models.

The model goes on with text before and after, so every old task asks it as it stands: `texts` and an earlier `run` for
its loss (`spoken.py`), `auto` for its next-token distributions (`next_tokens.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.data.load_for import load_for
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError, ModelError, TunesmithError
from tunesmith.evaluate.sifted import sifted
from tunesmith.forgetting.base import Opening, OpenTask
from tunesmith.forgetting.next_tokens import open_next_tokens
from tunesmith.forgetting.run import READS, check_same, old_data, run_facts
from tunesmith.forgetting.spoken import Spoken
from tunesmith.forgetting.work import OldParts
from tunesmith.recipe.forgetting import OldTask
from tunesmith.recipe.recipe import Recipe
from tunesmith.tasks.base import Task
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.types import Dataset

LANGUAGE = ("chats", "preferences")
"""Kinds of data from which a model learns to go on with text."""


def open_language_task(old: OldTask, source: str, opening: Opening) -> OpenTask:
    """The old task of a language model. ModelError, DataError or RunError, with what to do; NothingToScore for `auto`
    where no inputs are held out.

    source: `old.source`, as a path where it is one.
    """
    whose = f"the old task {opening.name} ({old.source})"
    if old.task is not None:
        raise ModelError(
            f"{whose}: a language model has no head that could be put onto another one. Leave task out: "
            "source: texts with data takes the loss on them, an earlier run's folder the loss on what it taught."
        )
    if old.source == "auto":
        reads = reading(opening.task)
        named = None if old.data is None else _parts(reads, _read(reads, old.data, opening, whose), opening)
        return open_next_tokens(opening, old.data, named, reads=reads, whose=whose)
    if old.source == "texts":
        assert old.data is not None
        return _texts(old.data, opening, whose)
    return _run(Path(source), old.data, opening, whose)


def reading(task: Task) -> CausalLm:
    """How texts and conversations become tokens in a run of this task, where the old task says nothing of it: cut to
    its length, and packed where it packs."""
    same = {name: getattr(task, name) for name in ("max_length", "chunk", "template")}
    return CausalLm(**same, packing=getattr(task, "packing", False), overlong="cut")


def _texts(data: DataOptions, opening: Opening, whose: str) -> Spoken:
    task = reading(opening.task)
    opened = Spoken("texts", opening, task, _parts(task, _read(task, data, opening, whose), opening))
    opened.definition = (
        f"mean loss in nats a token on {opened.rows(opened.parts[0]):,} {opened.parts[0]} texts of {data.path}, the "
        f"first {task.max_length} tokens of each (of a conversation: of the assistant's answers); perplexity is its "
        "exponential."
    )
    return opened


def _read(task: CausalLm, data: DataOptions, opening: Opening, whose: str) -> Dataset:
    """Data for an old task, without what cannot be turned into tokens."""
    try:
        dataset = sifted(
            task, load_for(task.kind, data, opening.folder, inputs=task.input_columns), opening.pretrained.processor
        )
    except TunesmithError as fault:
        raise DataError(f"{whose}: its data cannot be used. {fault}") from fault
    if not len(dataset.test) and not len(dataset.validation):
        raise DataError(f"{whose}: no text of its data is held out to be scored; give data.split.test a share.")
    return dataset


def _parts(task: CausalLm, dataset: Dataset, opening: Opening, processor: Any = None) -> OldParts:
    return OldParts(task, dataset, (), processor or opening.pretrained.processor, opening.folder, rows=opening.rows)


def _run(folder: Path, data: DataOptions | None, opening: Opening, whose: str) -> Spoken:
    """What an earlier run of task causal_lm taught, on its own held-out examples or others."""
    scores, manifest = (run_facts(folder, name, whose) for name in ("scores.json", "manifest.json"))
    recipe = Recipe.read(folder / "recipe.yaml")
    if not isinstance(recipe.task, CausalLm):
        raise DataError(
            f"{whose} reads {READS[recipe.task.kind]}, and an old task of a language model is a run of task causal_lm, "
            "texts or auto. What such a run learned shows in its own `tunesmith evaluate`; leave it out here."
        )
    task = recipe.task.model_copy(update={"packing": getattr(opening.task, "packing", False)})
    tokenizer = _tokenizer(folder / "best", opening, whose)
    whole = old_data(task, data or recipe.data, opening, (), multi_label=False, whose=whose)
    try:
        dataset = sifted(task, whole, tokenizer)
    except TunesmithError as fault:
        raise DataError(f"{whose}: its data cannot be used. {fault}") from fault
    if data is None:
        check_same(dataset, manifest, whose)
    opened = Spoken("run", opening, task, _parts(task, dataset, opening, tokenizer))
    opened.definition = _taught(opened, folder, dataset, scores)
    return opened


def _tokenizer(best: Path, opening: Opening, whose: str) -> Any:
    """The old run's tokenizer with its chat template. ModelError unless it cuts text as the new one does."""
    from tunesmith.models.tokenizer import read_tokenizer

    try:
        found = read_tokenizer(best)
    except ModelError as error:
        raise ModelError(f"{whose}: its tokenizer in {best} cannot be read: {error}") from error
    if found.get_vocab() != opening.pretrained.processor.get_vocab():
        raise ModelError(
            f"{whose} has another vocabulary than this run's model, so a loss a token would mean something else. Start "
            "from the old run's model or from the one that it started from, or leave this old task out."
        )
    return found


def _taught(opened: Spoken, folder: Path, dataset: Dataset, scores: Mapping[str, Any]) -> str:
    part = opened.parts[0]
    whole, rows = len(getattr(dataset, part)), opened.rows(part)
    count = f"all {rows:,}" if rows == whole else f"{rows:,} of {whole:,}"
    told = scores.get("after", {}).get(opened.main.name)
    own = (
        f" That run reported {told:.4f} of its own model on its {scores['part']} examples." if told is not None else ""
    )
    return (
        f"mean loss in nats a learned token of this run's model on {count} {part} examples of the run {folder}, in its "
        f"own chat template.{own}"
    )
