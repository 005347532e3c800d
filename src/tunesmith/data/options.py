"""What a recipe can say about data: where it is, which columns count, how it is split, how many bad rows stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tunesmith.data.chat_template_fields import pieces
from tunesmith.plugin import Options

Auto = Literal["auto"]


_WORDED = ("text", "messages", "prompt", "response", "system", "chosen", "rejected")
"""Columns that a template makes needless."""


class Columns(Options):
    """Names of the columns that count, as they stand in the file; what is not named is recognised or refused."""

    text: str | None = Field(None, min_length=1, description="the text to classify, or to go on with")
    text_pair: str | None = Field(None, min_length=1, description="the second text of a sentence pair")
    image: str | None = Field(None, min_length=1, description="the picture: a path in the file's folder, or bytes")
    label: str | None = Field(None, min_length=1, description="the class name, or a list of them")
    messages: str | None = Field(None, min_length=1, description="a chat: the list of its messages")
    prompt: str | None = Field(None, min_length=1, description="what is asked: a text, or a list of messages")
    response: str | None = Field(None, min_length=1, description="the answer to learn")
    system: str | None = Field(None, min_length=1, description="what the model is told before a chat begins")
    chosen: str | None = Field(None, min_length=1, description="the better of two answers")
    rejected: str | None = Field(None, min_length=1, description="the worse of two answers")
    liked: str | None = Field(None, min_length=1, description="whether the answer is a good one: true or false")
    group: str | None = Field(None, min_length=1, description="rows of one group never straddle a split")


class Wording(Options):
    """A chat in the recipe's own words, with {column}, {column:first_line} and {column:rest} for what a row holds."""

    system: str | None = Field(None, min_length=1, description="what the model is told first")
    user: str | None = Field(None, min_length=1, description='what is asked, such as "Translate: {english}"')
    assistant: str | None = Field(None, min_length=1, description='the answer to learn, such as "{french}"')
    chosen: str | None = Field(None, min_length=1, description="the better of two answers")
    rejected: str | None = Field(None, min_length=1, description="the worse of two answers")

    @field_validator("system", "user", "assistant", "chosen", "rejected")
    @classmethod
    def _well_formed(cls, given: str | None) -> str | None:
        if given is not None:
            pieces(given)
        return given

    @model_validator(mode="after")
    def _whole(self) -> Wording:
        if self.given and self.user is None:
            raise ValueError("a template needs user, what is asked")
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected belong together: give both or neither")
        if self.assistant is not None and self.chosen is not None:
            raise ValueError("assistant is one answer, chosen and rejected are two: give the one or the other")
        return self

    @property
    def given(self) -> Mapping[str, str]:
        """What the recipe words, by role; empty where it words nothing."""
        return {role: text for role, text in self.model_dump().items() if text is not None}


class SplitOptions(Options):
    """Shares that are held out of the training file; a part that has a file of its own needs no share."""

    validation: float = Field(0.1, ge=0, lt=1, description="share held out to choose the best checkpoint")
    test: float = Field(0.1, ge=0, lt=1, description="share held out for the final score")
    group_by: str | None = Field(None, min_length=1, description="a column whose equal values stay in one part")
    seed: int = Field(0, ge=0, lt=2**63, description="another seed gives another split")

    @model_validator(mode="after")
    def _something_left(self) -> SplitOptions:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test shares together leave no row to train on; they must sum below 1")
        return self


PLACES = ("path", "validation", "test", "pictures")
"""Options that name files and folders."""


class DataOptions(Options):
    """The person's data. `data: reviews.csv` in a recipe is short for `data: {path: reviews.csv}`."""

    path: str = Field(min_length=1, description="file, folder, glob, package:NAME/sub/path, hf:NAME or hub name")
    validation: str | None = Field(None, min_length=1, description="a file or folder of its own for validation")
    test: str | None = Field(None, min_length=1, description="a file or folder of its own for the test")
    pictures: str | None = Field(
        None, min_length=1, description="folder that paths of pictures are relative to; else that of the data file"
    )
    format: str | Auto = Field("auto", description="a reader's name; auto: by ending and content")
    encoding: str | Auto = Field("auto", description="such as utf-8, gb18030, cp1252; auto: found out per file")
    separator: str | Auto = Field("auto", description="one character between fields; auto: found out per file")
    header: bool | Auto = Field("auto", description="whether the first row names the columns")
    columns: Columns = Field(default_factory=Columns)
    template: Wording = Field(default_factory=Wording, description="a chat in your own words, of a row's columns")
    fill: dict[str, str] = Field(
        default_factory=dict, description="what stands for {{name}} in the texts of chats, such as {name: Ada}"
    )
    multi_label: bool | Auto = Field("auto", description="several classes a row; auto: if labels are lists")
    label_separator: str | None = Field(None, min_length=1, description='such as "|" for cells like sport|health')
    labels: tuple[str, ...] | None = Field(None, min_length=2, description="the allowed class names, in this order")
    split: SplitOptions = Field(default_factory=SplitOptions)
    limit: int | None = Field(None, gt=0, description="use a stratified sample of so many rows")
    max_bad_share: float = Field(0.01, ge=0, le=1, description="stop when more than this share of rows is unusable")

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _consistent(self) -> DataOptions:
        if self.separator != "auto" and len(self.separator) != 1:
            raise ValueError(f'separator must be one character (a tab is "\\t") or auto, not "{self.separator}"')
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels names a class twice")
        if self.label_separator is not None and self.multi_label is False:
            raise ValueError("label_separator makes labels multi-label, but multi_label is false: drop one of the two")
        group = self.columns.group
        if group is not None and self.split.group_by is not None and group != self.split.group_by:
            raise ValueError("columns.group and split.group_by name different columns: give one of them")
        named = [role for role in _WORDED if getattr(self.columns, role) is not None]
        if named and self.template.given:
            raise ValueError(f"template words the whole chat, so columns.{named[0]} means nothing: give one of the two")
        return self
