"""Which column is the text or picture, which the label: as the recipe says, by well-known names, or a question.

Names are compared without regard to case, outer blanks, and "-" or " " for "_". A column called `text`, `image` or
`label` wins over all other known names; otherwise two candidates are an error: a guess could train on the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tunesmith.data.known_names import (
    IMAGE,
    IMAGE_FIRST,
    LABEL,
    LABEL_FIRST,
    PAIRS,
    PICTURE_ENDINGS,
    TEXT,
    TEXT_FIRST,
)
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError, did_you_mean

INPUTS = ("text", "text_pair", "image")
"""Columns that the recipe may name for texts and pictures."""
CHATS = ("messages", "prompt", "response", "system", "chosen", "rejected", "liked")
"""Columns that it may name for chats and preferences."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which column of one table serves as what; inputs maps `text` (and `text_pair`) or `image` to a column's name."""

    inputs: Mapping[str, str]
    label: str | None
    group: str | None
    note: str = ""


def folded(name: str) -> str:
    """The name as it is compared: `" Review-Text "` is `review_text`."""
    return "_".join(name.replace("-", " ").replace("_", " ").casefold().split())


def is_known(name: str, options: DataOptions) -> bool:
    """Whether a cell of a first row is a column's name, well known for texts or given in the recipe."""
    given = (*options.columns.model_dump().values(), options.split.group_by)
    pairs = {one for pair in PAIRS for one in pair}
    known = TEXT_FIRST | TEXT | LABEL_FIRST | LABEL | pairs | {folded(g) for g in given if g}
    return folded(name) in known


def choose(
    columns: Sequence[str],
    options: DataOptions,
    *,
    inputs: Sequence[str],
    needs_label: bool,
    needs_group: bool = True,
    file: str,
    sample: Sequence[Mapping[str, Any]] = (),
    named: bool = True,
) -> Chosen:
    """The columns to use; DataError, listing what was found and how to say it, where that is not plain."""
    look = Look(columns, options, file, sample, named)
    given, main = options.columns, inputs[0]
    _no_other_input(options, inputs)
    asked = {role: look.given(f"columns.{role}", getattr(given, role, None)) for role in inputs}
    found = {role: column for role, column in asked.items() if column is not None}
    label = look.given("columns.label", given.label, needed=needs_label)
    group_key = "split.group_by" if options.split.group_by else "columns.group"
    group = look.given(group_key, options.split.group_by or given.group, needed=needs_group)
    note = ""
    if not named and not found and label is None and needs_label:
        found, label = look.by_values() if main == "text" else look.by_endings()
        word = "text" if main == "text" else "picture"
        note = f"{file}: no header; {found[main]} is taken as {word} and {label} as label."
    if main not in found:
        taken = [*found.values(), label, group]
        found = (look.texts(inputs, taken=taken) if main == "text" else look.image(taken=taken)) | found
    if label is None and (options.columns.label is None):
        label = look.label(taken=[*found.values(), group], needed=needs_label)
    look.all_different({**found, "label": label})
    return Chosen({role: found[role] for role in inputs if role in found}, label, group, note)


def _no_other_input(options: DataOptions, inputs: Sequence[str]) -> None:
    """DataError where the recipe names a column, or words a chat, that this task has no use for."""
    takes = "pictures" if "image" in inputs else "texts" if "text_pair" in inputs else "one text"
    given = [f"columns.{role}" for role in (*INPUTS, *CHATS) if getattr(options.columns, role) and role not in inputs]
    given += [key for key, value in (("template", options.template.given), ("fill", options.fill)) if value]
    if given:
        raise DataError(f"data.{given[0]} is given, but this task takes {takes}: drop it.")


@dataclass(frozen=True)
class Look:
    """One table's columns, as they are looked through: each lookup gives a column's name as the table has it."""

    columns: Sequence[str]
    options: DataOptions
    file: str
    sample: Sequence[Mapping[str, Any]]
    named: bool

    def given(self, key: str, name: str | None, *, needed: bool = True) -> str | None:
        """A column that the recipe names: as it is, or else but for case and blanks."""
        if name is None:
            return None
        near = [column for column in self.columns if column == name] or [
            column for column in self.columns if folded(column) == folded(name)
        ]
        if len(near) == 1:
            return near[0]
        if not needed:
            return None
        hint = did_you_mean(name, self.columns)
        raise DataError(f'{self.file}: data.{key} is "{name}", but there is no such column.{hint} {self.found()}')

    def texts(self, inputs: Sequence[str], *, taken: Iterable[str | None]) -> dict[str, str]:
        """The text column, or two where the names are those of a sentence pair and the task takes pairs."""
        free = {folded(c): c for c in self.columns if c not in taken}
        pairs = [pair for pair in PAIRS if pair[0] in free and pair[1] in free]
        if len(pairs) == 1 and "text_pair" in inputs and self.options.columns.text_pair is None:
            return {"text": free[pairs[0][0]], "text_pair": free[pairs[0][1]]}
        names = [free[n] for n in free if n in TEXT_FIRST] or [free[n] for n in free if n in TEXT]
        if len(names) == 1:
            return {"text": names[0]}
        if not self.named and len(self.columns) == 1:
            return {"text": self.columns[0]}
        if pairs and not names:
            names = [free[name] for name in pairs[0]]
        raise DataError(self.ask("text", names))

    def image(self, *, taken: Iterable[str | None]) -> dict[str, str]:
        """The column of pictures, by its name, or of a file without header by what stands in it."""
        free = {folded(c): c for c in self.columns if c not in taken}
        names = [free[n] for n in free if n in IMAGE_FIRST] or [free[n] for n in free if n in IMAGE]
        if not self.named:
            names = [c for c in free.values() if self._holds_pictures(c)]
        if len(names) != 1:
            raise DataError(self.ask("image", names))
        return {"image": names[0]}

    def label(self, *, taken: Iterable[str | None], needed: bool) -> str | None:
        """The label column, None where there is none and none is needed."""
        free = {folded(c): c for c in self.columns if c not in taken}
        names = [free[n] for n in free if n in LABEL_FIRST] or [free[n] for n in free if n in LABEL]
        if len(names) == 1:
            return names[0]
        if not needed:
            return None
        raise DataError(self.ask("label", names))

    def by_values(self) -> tuple[dict[str, str], str]:
        """Text and label of a file without header: two columns, of which one repeats few short values."""
        if len(self.columns) == 2:
            first, second = self.columns
            for label, text in ((first, second), (second, first)):
                labels = [str(values[label]).strip() for values in self.sample]
                texts = [str(values[text]).strip() for values in self.sample]
                few = 2 * len(set(labels)) <= len(labels) and 2 * len(set(labels)) <= len(set(texts))
                if few and sum(map(len, labels)) < sum(map(len, texts)):
                    return {"text": text}, label
        raise DataError(self._unnamed("text"))

    def by_endings(self) -> tuple[dict[str, str], str]:
        """Picture and label of a file without header: two columns, of which one holds names of picture files."""
        pictures = [column for column in self.columns if self._holds_pictures(column)]
        if len(self.columns) == 2 and len(pictures) == 1:
            return {"image": pictures[0]}, next(column for column in self.columns if column not in pictures)
        raise DataError(self._unnamed("image"))

    def _holds_pictures(self, column: str) -> bool:
        endings = [PurePath(str(values[column]).strip()).suffix.lower() in PICTURE_ENDINGS for values in self.sample]
        return 2 * sum(endings) > len(endings)

    def _unnamed(self, role: str) -> str:
        return (
            f"{self.file} has no header. Its columns are called {', '.join(self.columns)}, and it is not plain which "
            f"is which. {self.found()} Say it, such as data.columns.{role}={self.columns[0]} and "
            f"data.columns.label={self.columns[-1]}, or add a first line with names."
        )

    def all_different(self, roles: Mapping[str, str | None]) -> None:
        """One column cannot be two things."""
        used: dict[str, str] = {}
        for role, column in roles.items():
            if column is not None and used.setdefault(column, role) != role:
                raise DataError(f'{self.file}: column "{column}" is to be both {used[column]} and {role}.')

    def ask(self, role: str, names: Sequence[str]) -> str:
        """The question to the person: none found, or more than one."""
        known = {"text": "text, sentence, review", "image": "image, path, file_name"}.get(
            role, "label, category, class"
        )
        word = "picture" if role == "image" else role
        what = (
            f"more than one column could be the {word}: {', '.join(names)}."
            if names
            else f"no {word} column found (known names are {known} and the like)."
        )
        if role == "label" and list(self.columns) == ["image"]:
            return (
                f"{self.file} holds pictures but no labels. Put the pictures of each class into a folder of its own "
                f"(cat/1.jpg, dog/1.jpg), or name a file that has a column for the picture and one for the label."
            )
        example = names[0] if names else "NAME"
        strange = self.named and not any(is_known(column, self.options) for column in self.columns)
        unsure = strange and self.options.header == "auto"
        hint = " (or data.header=false, if the file has no header)" if unsure else ""
        return f"{self.file}: {what} {self.found()} Say which it is: data.columns.{role}={example}{hint}"

    def found(self) -> str:
        """The columns with their first values."""
        first = self.sample[0] if self.sample else {}
        shown = [f'"{name}"' + (f" ({_short(first[name])})" if name in first else "") for name in self.columns[:30]]
        more = f" and {len(self.columns) - 30} more" if len(self.columns) > 30 else ""
        return f"Columns found, with their first values: {', '.join(shown)}{more}."


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return f"a file of {len(value['bytes']):,} bytes"
    text = " ".join(str(value)[:200].split())
    return text if len(text) <= 30 else text[:29] + "…"
