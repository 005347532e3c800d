"""A finished run's model, loaded as any plain transformers and peft program would load it, and its answers: classes and
boxes with scores, or words that it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, FiniteFloat

from tunesmith.chats import Chat
from tunesmith.errors import DataError, RecipeError, RunError
from tunesmith.evaluate.evaluate import Part, logits_of
from tunesmith.evaluate.generation import Answer, Sampling, answer, stream
from tunesmith.evaluate.wrapping import opening_of, unwrapped, unwrapped_pieces
from tunesmith.metrics import classification
from tunesmith.models.chat_tokens import encode_prompt, end_ids
from tunesmith.models.vet import check_vocabulary
from tunesmith.pictures.form import patches
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.base_model import find_base
from tunesmith.run.earlier import model_of
from tunesmith.run.folder import open_run
from tunesmith.tasks.base import Encoded
from tunesmith.train.device import Device
from tunesmith.types import Example, Prediction, Pretrained


def _work(row: Encoded) -> int:
    """Tokens of an encoded text, patches of an encoded picture."""
    first: Any = next(iter(row.values()))
    return len(first) if "picture" not in row else patches(*first.shape[:2])


class _InMemory:
    """Encoded examples that a caller holds anyway."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows
        self.lengths = np.array([_work(row) for row in rows], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


@dataclass(frozen=True, slots=True)
class Writing:
    """How words are written: tokens at which an answer is cut off, and how each next one is chosen (`Sampling`)."""

    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def _unpaired(example: Example, paired: bool) -> str:
    place = f"{example.file}:{example.line}: " if example.file else ""
    if not paired:
        return f"{place}a pair of texts, and this run learned single ones: name the one column with data.columns.text."
    return (
        f"{place}one text, and this run learned pairs of them: give a file with both columns (--file), named where "
        "they are called otherwise with data.columns.text and data.columns.text_pair."
    )


class _Facts(BaseModel):
    """What tunesmith.json tells of a delivered model beside its weights."""

    labels: tuple[str, ...]
    multi_label: bool
    thresholds: list[FiniteFloat] | None
    temperature: FiniteFloat | None
    paired: bool | None = None


def _facts(path: Path) -> _Facts:
    """RunError where the file is gone or does not say what it must."""
    try:
        return _Facts.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if "errors.pydantic.dev" not in line]
        raise RunError(
            f"{path}, which tells the labels of what this run learned, is gone or cannot be read: "
            f"{', '.join(lines)[:300]}. Put it back, or fit again."
        ) from error


class Predictor:
    """Answers of a run's delivered model, in float32. RunError when the run has not finished, or its files are broken;
    ModelError when its model's are."""

    def __init__(self, folder: str | Path) -> None:
        run = open_run(folder)
        self.folder = run.folder
        self.recipe = Recipe.make(run.recipe)
        self.task = self.recipe.task
        facts = _facts(run.folder / "best" / "tunesmith.json")
        self.labels = facts.labels
        self.multi_label = facts.multi_label
        self.thresholds = None if facts.thresholds is None else np.array(facts.thresholds)
        self.temperature: float = facts.temperature or 1.0
        self.paired = facts.paired
        self.device = Device()
        self.model, self.processor = self.task.read(run.folder / "best")
        if self.task.in_tokens:
            check_vocabulary(self.model, self.processor)
        self.device.place(self.model)

    def logits(self, examples: Sequence[Example]) -> np.ndarray:
        """Raw scores [examples, classes], in order; memory is that of the examples and one batch. DataError where an
        example has one text and the run learned pairs, or the other way round."""
        if self.task.kind == "texts" and self.paired is not None:
            for example in examples:
                if (example.inputs.get("text_pair") is not None) != self.paired:
                    raise DataError(_unpaired(example, self.paired))
        encoded = _InMemory(self.task.encode(examples, self.processor)) if examples else _InMemory([])
        return logits_of(self.model, encoded, task=self.task, processor=self.processor, device=self.device)

    def refer(self, examples: Sequence[Example], targets: np.ndarray) -> None:
        """Fill in targets that are answers of the model that the run started from (`Task.refer`), in place."""
        part = Part(_InMemory(self.task.encode(examples, self.processor)), targets, self.labels)
        self.task.refer(self.untouched, {"test": part}, device=self.device)

    @cached_property
    def untouched(self) -> Pretrained:
        """The model that the run started from, read when it is first asked; ModelError where it is gone."""
        given, seed = self.recipe.model, self.recipe.train.seed
        source = find_base(self.task, given, model_of(given.network))
        found = self.task.load(source, self.labels, multi_label=self.multi_label, seed=seed)
        self.device.place(found.model)
        return found

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """The answer to each example; of a language model its words, as the label."""
        if self.task.goes_on:
            chats = [Chat.from_json(str(example.inputs["chat"])) for example in examples]
            return [Prediction(np.zeros(0, np.float32), each.text) for each in self.write(chats)]
        return self.task.predictions(self.logits(examples), self.labels, self.thresholds) if examples else []

    def predict_texts(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The answer to each text, or pair of texts; a language model is asked it, as one turn of a conversation."""
        return self.predict([self.asked(text) for text in texts])

    def asked(self, text: str | tuple[str, str], *, file: str = "", line: int = 0) -> Example:
        """A text (or pair of texts) as an example of the run's task."""
        if self.task.goes_on:
            if not isinstance(text, str):
                raise RecipeError("a language model is asked one text at a time, not a pair of texts.")
            return Example({"chat": self.chat_of(text).to_json()}, file=file, line=line)
        pair = (text,) if isinstance(text, str) else text
        return Example(dict(zip(("text", "text_pair"), pair, strict=False)), file=file, line=line)

    def chat_of(self, text: str) -> Chat:
        """A question to a language model as a chat, or what it shall go on with. RecipeError as in `write`."""
        self._must_speak()
        return Chat(text=text) if self.learned_texts else Chat(({"role": "user", "content": text},))

    @cached_property
    def learned_texts(self) -> bool:
        """Whether a language model learned plain texts, which it goes on with, and not conversations."""
        kept = self.folder / "predictions" / "test_after.jsonl"
        if not kept.is_file():
            return False
        with kept.open(encoding="utf-8") as file:
            first = json.loads(file.readline() or "{}")
        return "chat" in first and Chat.from_json(first["chat"]).text is not None

    def write(self, chats: Sequence[Chat], writing: Writing | None = None) -> list[Answer]:
        """The words with which a language model answers each chat, or goes on with a text; white space around them, and
        what its chat template writes before them, is dropped. RecipeError for a run of another kind, DataError where
        the model's template refuses a chat."""
        self._must_speak()
        writing = writing or Writing()
        found = answer(
            self.model,
            self.processor,
            [encode_prompt(self.processor, chat) for chat in chats],
            most_tokens=writing.most_tokens,
            stop=self._ends,
            sampling=Sampling(writing.temperature, writing.top_p, writing.seed),
            device=self.device,
        )
        openings = ["" if chat.text is not None else self._opening for chat in chats]
        pairs = zip(found, openings, strict=True)
        return [Answer(unwrapped(x.text, opening), x.tokens, x.ended, x.unread) for x, opening in pairs]

    def stream(self, chat: Chat, writing: Writing | None = None) -> Iterator[str]:
        """The answer to one chat, piece by piece as it is written. RecipeError and DataError as in `write`."""
        self._must_speak()
        prompt = encode_prompt(self.processor, chat)
        pieces = stream(
            self.model, self.processor, prompt, stop=self._ends, device=self.device, **asdict(writing or Writing())
        )
        return unwrapped_pieces(pieces, "" if chat.text is not None else self._opening)

    @property
    def longest_input(self) -> int | None:
        """The most tokens that a language model reads and writes together; None where it names no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        model: Any = self.model
        return end_ids(self.processor, model.config, getattr(model, "generation_config", None))

    @cached_property
    def _opening(self) -> str:
        """What the model's chat template writes before the words of an answer."""
        return opening_of(self.processor)

    def speaking(self) -> Predictor:
        """Itself, where it answers in words; RecipeError as in `write`."""
        self._must_speak()
        return self

    def _must_speak(self) -> None:
        if not self.task.goes_on:
            raise RecipeError(
                f"{self.folder} is a run of {type(self.task).name}, which does not answer in words. "
                f"Ask it with: tunesmith predict {self.folder}"
            )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [examples, classes]: logits divided by the stored temperature."""
        scaled = logits / self.temperature
        return classification.sigmoid(scaled) if self.multi_label else classification.softmax(scaled)
