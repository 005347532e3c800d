"""The starter recipe: valid as it stands, and its commented options are the defaults they claim to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith.errors import RecipeError
from tunesmith.methods.base import registry as methods
from tunesmith.plugin import Options
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.starter import starter
from tunesmith.recipe.wanted import members
from tunesmith.tasks.base import registry as tasks


def read(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "starter.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.read(path)


@pytest.mark.parametrize("method", methods.names())
def test_a_starter_is_valid_as_it_stands_and_with_every_option_switched_on(tmp_path: Path, method: str) -> None:
    text = starter("text_classification", "some/model", "reviews.csv", method)
    recipe = read(tmp_path, text)
    least = {"task": "text_classification", "model": "some/model", "data": "reviews.csv", "method": method}
    assert recipe == Recipe.make(least)
    assert read(tmp_path, re.sub(r"^  # ", "  ", text, flags=re.MULTILINE)) == recipe


@pytest.mark.parametrize("task", tasks.names())
def test_where_no_model_or_data_is_named_the_examples_fit_the_task(tmp_path: Path, task: str) -> None:
    recipe = read(tmp_path, starter(task, None, None))
    kind = tasks.get(task).kind
    assert recipe.model.name.startswith("timm/") == (kind in ("images", "boxes"))
    assert recipe.data.path.endswith(".jsonl") == (kind in ("chats", "preferences"))
    assert read(tmp_path, starter(task, "m", None)).data.path == recipe.data.path


def test_every_option_stands_in_the_starter_with_a_meaning() -> None:
    text = starter("text_classification", "m", "d.csv", "lora")
    documented = set(re.findall(r"^[ #]*(\w+): .*  # \S", text, flags=re.MULTILINE))

    def names(kind: type[Options]) -> set[str]:
        found = set()
        for name, field in kind.model_fields.items():
            inner = [k for k, _ in members(field.annotation) if isinstance(k, type) and issubclass(k, Options)]
            found |= names(inner[0]) if inner else {name}
        return found

    recipe = Recipe.make({"task": "text_classification", "model": "m", "data": "d.csv"})
    for section in (recipe.task, recipe.model, recipe.data, recipe.method, recipe.train):
        assert names(type(section)) - documented == set()


@pytest.mark.parametrize(
    "word", ["no", "null", "12", "1e-4", "a: b", "*.csv", "x #y", "C:\\data\\r.csv", "it's", "-", ""]
)
def test_any_name_is_quoted_where_it_must_be(tmp_path: Path, word: str) -> None:
    if word:
        assert read(tmp_path, starter("text_classification", word, word)).data.path == word


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(RecipeError, match='Did you mean "lora"'):
        starter("text_classification", "m", "d.csv", "lroa")
