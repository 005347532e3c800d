from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.data.options import DataOptions


def test_a_path_alone_is_enough() -> None:
    assert DataOptions.model_validate("a.csv") == DataOptions(path="a.csv")


@pytest.mark.parametrize(
    "given",
    [
        {"separator": ", "},
        {"labels": ("a", "a")},
        {"labels": ("a",)},
        {"label_separator": "|", "multi_label": False},
        {"split": {"validation": 0.5, "test": 0.5}},
        {"split": {"group_by": "user"}, "columns": {"group": "author"}},
        {"limit": 0},
        {"max_bad_share": 1.5},
        {"colums": {}},
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataOptions(path="a.csv", **given)
