"""Generated answers in a run: the same questions to the untouched and to the tuned model, kept side by side and scored.

predictions/answers.json holds the questions with both answers. The untouched model's stand there before the first step,
so a resumed run does not ask it again. A model that cannot generate is asked nothing: the file then says why
(`skipped`), unless the recipe wants answers otherwise than by default, which is an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.evaluate.asked import first_asked
from tunesmith.evaluate.generation import answer, why_silent
from tunesmith.evaluate.wrapping import final_words, opening_of, unwrapped
from tunesmith.metrics import answers as metrics
from tunesmith.models.chat_tokens import end_ids
from tunesmith.run.folder import write_json
from tunesmith.run.setup import Ready
from tunesmith.tasks._answers import AnswerOptions
from tunesmith.train.checkpoint import disk_faults

FILE = "answers.json"

_logger = logging.getLogger(__name__)


def asks(ready: Ready) -> bool:
    """Whether this run has its models answer in words."""
    options = _options(ready)
    return options is not None and options.rows > 0 and len(_examples(ready)[1]) > 0


def answered_before(ready: Ready, folder: Path) -> None:
    """Ask the untouched model, unless its answers are kept already. Every process takes part. ModelError for a model
    that cannot generate, where the recipe asks for answers of its own."""
    if not asks(ready) or ready.device.agree((folder / "predictions" / FILE).is_file()):
        return
    options = _options(ready)
    assert options is not None
    tokenizer = ready.pretrained.processor
    part, examples = _examples(ready)
    silent = why_silent(ready.pretrained.model, device=ready.device)
    if silent:
        _refuse_or_note(silent, options)
    wanted = 0 if silent else options.rows
    chosen = list(first_asked(examples, tokenizer, rows=wanted, most_tokens=options.most_tokens))
    rows = [
        {
            "chat": json.loads(asked.chat.to_json()),
            "prompt": list(asked.prompt),
            "wanted": asked.wanted,
            "file": example.file,
            "line": example.line,
        }
        for example, asked in chosen
    ]
    _answer(ready, ready.pretrained.model, rows, options, "before")
    if ready.device.is_main:
        with disk_faults(folder):
            (folder / "predictions").mkdir(exist_ok=True)
        write_json(
            folder / "predictions" / FILE,
            {
                "part": part,
                **options.model_dump(mode="json", exclude={"rows"}),
                **({"skipped": silent} if silent else {}),
                "rows": rows,
            },
        )


def answered_after(ready: Ready, model: nn.Module, folder: Path) -> dict[str, Any]:
    """Ask the tuned model the same, keep its answers beside the others, and sum up the scores of both.

    The result holds `before`, `after`, `intervals` and `difference` in the form of scores.json; it is empty where this
    run asks nothing, and in every process but the first.
    """
    if not asks(ready):
        return {}
    options, file = _options(ready), folder / "predictions" / FILE
    assert options is not None
    kept: dict[str, Any] = ready.device.agree(json.loads(file.read_text("utf-8")) if ready.device.is_main else None)
    rows: list[dict[str, Any]] = kept["rows"]
    _answer(ready, model, rows, options, "after")
    if not ready.device.is_main or not rows:
        return {}
    scored = {when: _scored(rows, options, when) for when in ("before", "after")}
    for place, row in enumerate(rows):
        row["scores"] = {
            when: {name: _number(values[place]) for name, values in found.items()} for when, found in scored.items()
        }
    write_json(file, kept)
    return _summed_up(scored, seed=ready.recipe.train.seed)


def add_answers(scores: dict[str, Any], told: Mapping[str, Any]) -> None:
    """Add what `answered_after` tells to a run's scores, in place."""
    for key, value in told.items():
        if key == "intervals":
            for when, spans in value.items():
                scores.setdefault(key, {}).setdefault(when, {}).update(spans)
        else:
            scores[key] = {**scores.get(key, {}), **value}


def _refuse_or_note(silent: str, options: AnswerOptions) -> None:
    """ModelError where the recipe sets how answers are asked for; a note where that is left at the default."""
    if options != AnswerOptions():
        raise ModelError(f"task.answers: {silent} Or write task.answers.rows=0.")
    _logger.warning("No answers in words are asked for: %s task.answers.rows=0 leaves out this note.", silent)


def _options(ready: Ready) -> AnswerOptions | None:
    found: AnswerOptions | None = getattr(ready.recipe.task, "answers", None)
    return found


def _examples(ready: Ready) -> tuple[str, Any]:
    """The part that scores are taken on, as examples."""
    name = "test" if len(ready.dataset.test) else "validation"
    return name, getattr(ready.dataset, name)


def _answer(ready: Ready, model: nn.Module, rows: list[dict[str, Any]], options: AnswerOptions, when: str) -> None:
    """Add the model's answers to the rows, in place: the text, whether it stopped by itself, prompt tokens unread."""
    tokenizer, own = ready.pretrained.processor, ready.pretrained.model
    stop = end_ids(tokenizer, own.config, getattr(own, "generation_config", None))
    prompts = [row["prompt"] for row in rows]
    found = answer(model, tokenizer, prompts, most_tokens=options.most_tokens, stop=stop, device=ready.device)
    opening = "" if all("text" in row["chat"] for row in rows) else opening_of(tokenizer)
    for row, each in zip(rows, found, strict=True):
        text = unwrapped(each.text, "" if "text" in row["chat"] else opening)  # a plain text is gone on with as it is
        row[when] = {"text": text, "tokens": len(each.tokens), "ended": each.ended, "unread": each.unread}


def _scored(rows: list[dict[str, Any]], options: AnswerOptions, when: str) -> dict[str, np.ndarray]:
    given = [final_words(row[when]["text"]) for row in rows]
    wanted = [final_words(row["wanted"]) for row in rows]
    return metrics.score_answers(given, wanted, options.scores, pattern=options.pattern)


def _summed_up(scored: Mapping[str, Mapping[str, np.ndarray]], *, seed: int) -> dict[str, Any]:
    told = {when: metrics.means(found, seed=seed) for when, found in scored.items()}
    gains = metrics.gains(scored["before"], scored["after"], seed=seed)
    return {
        **{when: {name: mean.value for name, mean in found.items()} for when, found in told.items()},
        "intervals": {when: {n: [mean.low, mean.high] for n, mean in found.items()} for when, found in told.items()},
        "difference": {name: [gain.value, gain.low, gain.high] for name, gain in gains.items()},
    }


def _number(value: float) -> float | None:
    return None if value != value else round(float(value), 6)
