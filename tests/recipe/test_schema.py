"""The published JSON Schema: up to date, and of one mind with the reader about what a recipe is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tunesmith.methods.base import registry as methods
from tunesmith.recipe.read import parse, read_yaml
from tunesmith.recipe.scalars import plain
from tunesmith.recipe.schema import json_schema
from tunesmith.recipe.starter import starter

PROJECT = Path(__file__).parents[2]
PUBLISHED = PROJECT / "schema" / "recipe.schema.json"
LEAST = {"task": "text_classification", "model": "m", "data": "d.csv"}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_up_to_date() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json_schema(), "write it anew with `make schema`"


def test_short_and_long_forms_are_valid(validator: Any) -> None:
    validator.validate(LEAST)
    validator.validate({**LEAST, "method": {"name": "lora", "rank": 4}, "train": {"epochs": 0.5}})
    validator.validate({**LEAST, "data": {"path": "d.csv", "columns": {"text": "review"}}})


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_an_alternative_by_its_name(validator: Any, name: str) -> None:
    validator.validate({**LEAST, "method": name})
    validator.validate({**LEAST, "method": {"name": name}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "text_classification", "model": "m"},
        {**LEAST, "metod": "lora"},
        {**LEAST, "method": "lroa"},
        {**LEAST, "method": {"rank": 4}},
        {**LEAST, "method": {"name": "full", "rank": 4}},
        {**LEAST, "train": {"epochs": -1}},
        {**LEAST, "train": {"epochs": "many"}},
        {**LEAST, "data": {"path": 3}},
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(validator: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)


def test_the_starter_and_the_ready_recipes_are_valid(validator: Any) -> None:
    validator.validate(plain(parse(starter("text_classification", "m", "d.csv"))[0]))
    for file in sorted((PROJECT / "recipes").glob("*.yaml")):
        validator.validate(read_yaml(file)[0])
