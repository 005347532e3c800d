"""From what the recipe says about data to chats, texts to go on with, or preferences, in three parts.

The road is that of `load.py`; here each table's form is found and its rows are read by it before they take that road.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.chats import Chat
from tunesmith.data.chat_faults import ChatFault
from tunesmith.data.chat_forms import Form, Reading, chat_form
from tunesmith.data.chat_messages import without_nulls
from tunesmith.data.chat_notes import ChatNotes
from tunesmith.data.columns import Chosen, Look
from tunesmith.data.load import load, read_unlabelled
from tunesmith.data.notes import worst_first
from tunesmith.data.options import DataOptions
from tunesmith.data.preference_forms import preference_form, sort_of
from tunesmith.data.readers.base import Row, Table
from tunesmith.errors import DataError
from tunesmith.types import Dataset, Examples

INPUTS = {"chats": ("chat",), "preferences": ("chat", "chosen", "rejected", "answer", "liked")}
"""What `Example.inputs` may hold: `chat` always, then `chosen` and `rejected`, or `answer` and `liked`."""
KINDS = tuple(INPUTS)


def load_chats(options: DataOptions, folder: Path, kind: str) -> Dataset:
    """Read, check and split chats; Arrow files and quarantine.jsonl go to `folder`. DataError, with what to do, where
    the data cannot be used.

    kind: `chats`, for which `Example.inputs` is `{"chat": <Chat JSON>}`; or `preferences`, for which `chat` ends before
    the answers and beside it stand `chosen` and `rejected`, or `answer` and `liked` ("true" or "false").
    """
    forming = _Forming(options, kind, needs_answer=True)
    dataset = load(options, folder, inputs=INPUTS[kind], needs_label=False, kind=kind, form=forming)
    summary = dataset.summary
    if not len(dataset.train):
        raise DataError(f"{options.path}: no row to train on.")
    empty = [f"EMPTY: the {part} part has no row." for part, rows in summary.split_sizes.items() if not rows]
    remarks = worst_first([*summary.notes, *empty, *forming.told.notes()])
    return replace(dataset, summary=replace(summary, notes=remarks))


def read_chats(path: str, options: DataOptions, folder: Path, kind: str, *, needs_answer: bool = False) -> Examples:
    """The chats of one file or folder in their order. needs_answer: False for those that are to be answered; answers
    may then be missing, and are kept where they are there. To answer the questions of preferences, let kind be `chats`.
    """
    if kind == "chats" and not needs_answer:
        options = _without_preferences(options)
    forming = _Forming(options, kind, needs_answer=needs_answer or kind != "chats")
    return read_unlabelled(path, options, folder, INPUTS[kind], kind=kind, form=forming)


def _without_preferences(options: DataOptions) -> DataOptions:
    """The same without what it says of two answers, or of whether one is liked."""
    columns = options.columns.model_copy(update={"chosen": None, "rejected": None, "liked": None})
    template = options.template.model_copy(update={"chosen": None, "rejected": None})
    return options.model_copy(update={"columns": columns, "template": template})


class _Forming:
    """Reads each table by its form. Rows hold `INPUTS` then, and `group` where the recipe names a column for that."""

    def __init__(self, options: DataOptions, kind: str, *, needs_answer: bool) -> None:
        _only_what_is_heeded(options, kind)
        self.options, self.kind, self.needs_answer = options, kind, needs_answer
        self.told = ChatNotes(options.fill)
        self._sort = ""

    def __call__(self, table: Table, part: str | None) -> tuple[Table, Chosen]:
        look = Look(table.columns, self.options, table.file, table.sample, table.named)
        form = preference_form(look) if self.kind == "preferences" else chat_form(look, needs_answer=self.needs_answer)
        self._of_one_sort(form, table.file)
        key = "split.group_by" if self.options.split.group_by else "columns.group"
        name = self.options.split.group_by or self.options.columns.group
        group = look.given(key, name, needed=self.needs_answer and part in (None, "train"))
        heard = form.heard | {group}
        offered = table.facts.get("offers", ())  # by the reader, beside what the person wrote
        unused = [column for column in table.columns if column not in heard and column not in offered]
        table.notes.append(f"{table.file}: read as {form.name}; {form.said}.{_not_used(unused)}")
        table.facts |= {"form": form.name, "columns": dict(form.columns), "answers": Counter(), "roles": Counter()}
        inputs = INPUTS[self.kind]
        formed = replace(table, columns=inputs, rows=self._rows(table, form, group), sample=())
        return formed, Chosen(dict(zip(inputs, inputs, strict=True)), None, "group" if group else None)

    def _rows(self, table: Table, form: Form, group: str | None) -> Iterator[Row]:
        columns = form.heard
        for row in table.rows:
            if row.values is None:
                yield row
                continue
            heard = {column: cell for column, cell in row.values.items() if column in columns}
            if not table.encoding:  # Arrow's
                heard = {column: without_nulls(cell) for column, cell in heard.items()}
            given = {**row.values, **heard}
            try:
                reading = self.told.filled(form.read(given))
            except ChatFault as fault:
                yield row._replace(values=None, reason=str(fault), raw=row.values)
                continue
            self.told.look(reading, f"{row.file or table.file}:{row.line}", heard.values())
            _count(reading, table.facts)
            values = {"chat": reading.chat.to_json(), **reading.answers}
            yield row._replace(values=values | ({"group": row.values.get(group)} if group else {}))

    def _of_one_sort(self, form: Form, file: str) -> None:
        """DataError where files of one data set hold different sorts of preferences."""
        if self.kind != "preferences":
            return
        sort = sort_of(form)
        if self._sort and sort != self._sort:
            raise DataError(
                f"{file} is of the sort '{sort}', another file of '{self._sort}': one data set is of one sort. "
                f"Name the files of one sort."
            )
        self._sort = sort


def _count(reading: Reading, facts: dict[str, Any]) -> None:
    chat: Chat = reading.chat
    facts["roles"].update(message["role"] for message in chat.messages)
    facts["answers"][str(sum(message["role"] == "assistant" for message in chat.messages))] += 1


def _not_used(columns: list[str]) -> str:
    if not columns:
        return ""
    more = f" and {len(columns) - 10} more" if len(columns) > 10 else ""
    return f" Not used: {', '.join(columns[:10])}{more}."


def _only_what_is_heeded(options: DataOptions, kind: str) -> None:
    """DataError for a setting that means nothing for chats."""
    given = [f"columns.{role}" for role in ("text_pair", "image", "label") if getattr(options.columns, role)]
    given += [
        f"columns.{r}" for r in ("chosen", "rejected", "liked") if kind == "chats" and getattr(options.columns, r)
    ]
    given += [
        key
        for key in ("labels", "multi_label", "label_separator")
        if getattr(options, key) != DataOptions.model_fields[key].default
    ]
    given += [f"template.{r}" for r in ("chosen", "rejected") if kind == "chats" and r in options.template.given]
    given += ["columns.text"] if kind == "preferences" and options.columns.text else []
    if given:
        raise DataError(f"data.{given[0]} is given, but means nothing for {kind}: leave it out.")
