"""What a recipe can say about data: where it is, which columns count, how it is split, how many bad rows stop."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tunesmith.plugin import Options

Auto = Literal["auto"]


class Columns(Options):
    """Names of the columns that count, as they stand in the file; what is not named is recognised or refused."""

    text: str | None = Field(None, min_length=1, description="the text to classify")
    text_pair: str | None = Field(None, min_length=1, description="the second text of a sentence pair")
    image: str | None = Field(None, min_length=1, description="the picture: a path in the file's folder, or bytes")
    label: str | None = Field(None, min_length=1, description="the class name, or a list of them")
    group: str | None = Field(None, min_length=1, description="rows of one group never straddle a split")


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
        return self
