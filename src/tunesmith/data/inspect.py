"""What is in the data, how long texts or large pictures are, what is doubtful, and what tunesmith does about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from tunesmith.data.chat_cells import chat_keys
from tunesmith.data.duplicates import as_numbers, contradicted, key_of, keys_of, repeated, shared
from tunesmith.data.inspect_chats import ChatFigures, chat_figures, words_of
from tunesmith.data.labels import names_of
from tunesmith.data.parts import PARTS
from tunesmith.data.quarantine import QUARANTINE
from tunesmith.data.store import ArrowExamples
from tunesmith.types import Dataset, Examples

Lengths = Callable[[Sequence[str], Sequence[str] | None], list[int]]
"""Token counts of texts (and their pairs), uncut."""
_CHUNK = 1000
_LISTED = 30


@dataclass(frozen=True, slots=True)
class Inspection:
    """Figures on a data set. Percentiles are of tokens, by the nearest-rank method; shares lie in 0..1.

    lengths: percentile name (`p50` ...) to tokens, None where no tokenizer was given. sides: `smallest`, `median` and
    `largest` of all widths and heights of pictures, in pixels; None for texts. leaks: rows of a later part whose
    normalised text, or whose picture, also stands in an earlier one, such as {"test in train": 3}.
    """

    read: int
    used: int
    quarantined: int
    blank: int
    parts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    multi_label: bool
    lengths: Mapping[str, int] | None
    max_length: int | None
    cut: int
    cut_share: float
    exact_duplicates: int
    near_duplicates: int
    leaks: Mapping[str, int]
    contradictions: int
    smallest_class: str
    imbalance: float
    notes: tuple[str, ...]
    sides: Mapping[str, int] | None = None
    chats: ChatFigures | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures in words, one idea a line, with what tunesmith does about each."""
        content = self._classes() if self.chats is None else self.chats.lines()
        return [*self._rows(), *content, *self._lengths(), *self._doubts()]

    def _rows(self) -> Iterator[str]:
        yield f"Rows: {self.read:,} read = {self.used:,} used + {self.quarantined:,} quarantined + {self.blank:,} blank"
        if self.quarantined:
            yield f"  quarantined rows are left out; each is kept with its reason (in a run: {QUARANTINE})"
        yield "Parts: " + ", ".join(f"{part} {rows:,}" for part, rows in self.parts.items())
        left_out = self.used - sum(self.parts.values())
        if left_out:
            yield f"  {left_out:,} usable rows are left out by data.limit"

    def _classes(self) -> Iterator[str]:
        yield f"Classes: {len(self.classes)}" + (" (a row may have several)" if self.multi_label else "")
        width = max((len(name) for name in self.classes), default=0)
        total = sum(sum(by_part.values()) for by_part in self.classes.values()) or 1
        by_size = sorted(self.classes.items(), key=lambda item: -sum(item[1].values()))
        for name, by_part in by_size[:_LISTED]:
            rows = sum(by_part.values())
            yield f"  {name:<{min(width, 40)}}  {rows:>9,}  {rows / total:6.1%}"
        if len(by_size) > _LISTED:
            yield f"  and {len(by_size) - _LISTED} more, of {sum(by_size[-1][1].values()):,} rows and more each"
        if self.imbalance > 1:
            yield f"  the largest has {self.imbalance:.1f} times as many training rows as {self.smallest_class}"

    def _lengths(self) -> Iterator[str]:
        if self.sides is not None:
            yield "Sides of a picture in pixels: " + ", ".join(f"{name} {n:,}" for name, n in self.sides.items())
        if self.lengths is None:
            return
        what = "text" if self.chats is None else "row, without the marks of a chat template"
        yield f"Tokens a {what}: " + ", ".join(f"{name} {tokens:,}" for name, tokens in self.lengths.items())
        if self.max_length is not None:
            noun = "text" if self.chats is None else "row"
            what = f"{self.cut:,} {noun}s ({self.cut_share:.1%}) are longer than max_length {self.max_length}"
            then = (
                "what stands behind it is not read" if self.chats is None else "task.overlong says what becomes of them"
            )
            yield f"  {what}: {then}" if self.cut else f"  no {noun} is longer than max_length {self.max_length}"

    def _doubts(self) -> Iterator[str]:
        noun = "picture" if self.sides is not None else "text" if self.chats is None else self.chats.noun
        more = "with another answer" if noun == "question" else "but for case, outer blanks or Unicode form"
        near = f"{self.near_duplicates - self.exact_duplicates:,} more {more}"
        how = f"exactly, {near}" if self.sides is None else "pixel by pixel"
        yield f"Duplicates: {self.exact_duplicates:,} rows repeat an earlier {noun} {how}"
        if self.near_duplicates:
            yield f"  all are kept; where tunesmith splits, all copies of a {noun} go into one part"
        leaks = ", ".join(f"{rows:,} rows of {where}" for where, rows in self.leaks.items() if rows)
        yield f"Duplicates across parts: {leaks or 'none'}"
        if leaks:
            yield "  kept as the files give them; scores on those rows prove nothing"
        if self.chats is None:
            yield f"{noun.capitalize()}s with more than one label: {self.contradictions:,}"
        if self.contradictions:
            yield "  all are kept; correct the labels if you can"
        yield from (f"Note: {note}" for note in self.notes)


def inspect(dataset: Dataset, lengths: Lengths | None, max_length: int | None) -> Inspection:
    """Figures on a loaded data set, read once from disk, a thousand rows at a time.

    lengths: counts tokens of texts; None leaves lengths out. max_length: tokens at which the model cuts.
    """
    parts = dict(zip(PARTS, (dataset.train, dataset.validation, dataset.test), strict=True))
    keys = {part: _keys(examples) for part, examples in parts.items()}
    exact, normal, labels = (np.concatenate([keys[part][i] for part in PARTS]) for i in range(3))
    tokens = np.concatenate([_tokens(e, lengths) for e in parts.values()]) if lengths else None
    summary = dataset.summary
    counts = {name: {part: summary.class_counts[part][name] for part in PARTS} for name in dataset.labels}
    train = {name: by_part["train"] for name, by_part in counts.items() if by_part["train"]}
    smallest = min(train, key=lambda name: train[name], default="")
    cut = int((tokens > max_length).sum()) if tokens is not None and max_length is not None else 0
    return Inspection(
        read=summary.read,
        used=summary.used,
        quarantined=summary.quarantined,
        blank=summary.blank,
        parts=dict(summary.split_sizes),
        classes=counts,
        multi_label=dataset.multi_label,
        lengths=_percentiles(tokens) if tokens is not None and len(tokens) else None,
        max_length=max_length,
        cut=cut,
        cut_share=cut / len(tokens) if tokens is not None and len(tokens) else 0.0,
        exact_duplicates=repeated(exact),
        near_duplicates=repeated(normal),
        leaks={
            f"{part} in {other}": shared(keys[part][1], keys[other][1])
            for part, other in (("validation", "train"), ("test", "train"), ("test", "validation"))
        },
        contradictions=contradicted(normal, labels),
        smallest_class=smallest,
        imbalance=max(train.values()) / train[smallest] if train else 1.0,
        notes=summary.notes,
        sides=_sides(parts.values()),
        chats=chat_figures(parts.values(), summary),
    )


def _keys(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact keys, normalised keys and a number of the label, each [rows]."""
    exact, normal, labels = bytearray(), bytearray(), bytearray()
    pictures = _fact(examples, "key")
    for example in examples:
        if pictures is None:
            inputs = example.inputs
            one, other = chat_keys(inputs) if "chat" in inputs else keys_of(tuple(inputs.values()))
            exact += one
            normal += other
        labels += key_of(names_of(example.label) if example.label else ("",))
    if pictures is not None:
        return pictures, pictures, as_numbers(labels)
    return as_numbers(exact), as_numbers(normal), as_numbers(labels)


def _fact(examples: Examples, name: str) -> np.ndarray | None:
    """What the store knows of each picture [rows]; None for texts."""
    found = examples.store.fact(name) if isinstance(examples, ArrowExamples) else None
    return None if found is None else found[examples.rows]  # type: ignore[attr-defined]


def _sides(parts: Iterable[Examples]) -> dict[str, int] | None:
    found = [_fact(examples, name) for examples in parts for name in ("width", "height")]
    sides = np.concatenate([one for one in found if one is not None] or [np.zeros(0, dtype=np.uint64)])
    if not len(sides):
        return None
    marks = {"smallest": 0, "median": 50, "largest": 100}
    return {name: int(np.percentile(sides, q, method="inverted_cdf")) for name, q in marks.items()}


def _tokens(examples: Examples, lengths: Lengths) -> np.ndarray:
    rows = iter(examples)
    counts: list[int] = []
    while chunk := list(islice(rows, _CHUNK)):
        pairs = [example.inputs.get("text_pair") for example in chunk]
        paired = None if all(pair is None for pair in pairs) else [pair or "" for pair in pairs]
        counts += lengths([example.inputs.get("text") or words_of(example.inputs) for example in chunk], paired)
    return np.array(counts, dtype=np.int64)


def _percentiles(tokens: np.ndarray) -> dict[str, int]:
    marks = {"shortest": 0, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "longest": 100}
    return {name: int(np.percentile(tokens, q, method="inverted_cdf")) for name, q in marks.items()}
