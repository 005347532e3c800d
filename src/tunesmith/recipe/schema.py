"""The JSON Schema of recipes, for editors: completion, hints and red lines while a recipe is written."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from tunesmith.data.options import DataOptions
from tunesmith.methods import base as methods
from tunesmith.plugin import Options, Registry
from tunesmith.recipe.forgetting import ForgettingOptions
from tunesmith.recipe.recipe import ModelOptions, Recipe
from tunesmith.retention import base as retentions
from tunesmith.tasks import base as tasks
from tunesmith.train.options import TrainOptions

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema of a whole recipe; tasks, methods and retentions stand as alternatives, told apart by their name."""
    plugins: dict[str, Registry[Any]] = {
        "task": tasks.registry,
        "method": methods.registry,
        "retention": retentions.registry,
    }
    found: dict[str, dict[str, type[Options]]] = {
        section: {name: registry.get(name) for name in registry.names()} for section, registry in plugins.items()
    }
    sections: dict[str, type[Options]] = {"model": ModelOptions, "data": DataOptions, "train": TrainOptions,
                                          "forgetting": ForgettingOptions}  # fmt: skip
    classes = [*sections.values(), *(kind for named in found.values() for kind in named.values())]
    refs, shared = models_json_schema([(kind, "validation") for kind in classes])
    defs: Schema = shared["$defs"]
    places = {kind: refs[(kind, "validation")]["$ref"] for kind in classes}
    described = {name: field.description or "" for name, field in Recipe.model_fields.items()}

    properties: Schema = {
        "task": _named(found["task"], tasks.registry, places, defs),
        "model": {"oneOf": [{"type": "string", "minLength": 1}, {"$ref": places[ModelOptions]}]},
        "data": {"oneOf": [{"type": "string", "minLength": 1}, {"$ref": places[DataOptions]}]},
        "method": _named(found["method"], methods.registry, places, defs),
        "train": {"$ref": places[TrainOptions]},
        "forgetting": {"$ref": places[ForgettingOptions]},
        "retention": _or_null(_named(found["retention"], retentions.registry, places, defs)),
        "output": {"type": "string", "minLength": 1, "default": "auto"},
    }
    old = defs["OldTask"]
    old["properties"]["task"] = _or_null(properties["task"])  # any task's options, not those of the base class
    forgetting = defs[places[ForgettingOptions].rpartition("/")[2]]["properties"]
    forgetting["old_tasks"]["items"] = {"oneOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/OldTask"}]}
    forgetting["old_tasks"]["default"] = ["auto"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tunesmith recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["task", "model", "data"],
        "properties": {name: {**value, "description": described[name]} for name, value in properties.items()},
        "$defs": dict(sorted(defs.items())),
    }


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [*schema["oneOf"], {"type": "null"}], "default": None}


def _named(
    named: dict[str, type[Options]], registry: Registry[Any], places: dict[type[Options], str], defs: Schema
) -> Schema:
    """One plugin of a registry: its bare name, or its name with its options beside it."""
    alternatives: list[Schema] = [{"enum": list(named)}]
    for name, kind in named.items():
        schema = defs[places[kind].rpartition("/")[2]]
        schema["title"] = name
        schema["description"] = registry.describe(name)
        schema["properties"] = {"name": {"const": name}, **schema.get("properties", {})}
        schema["required"] = ["name", *schema.get("required", [])]
        alternatives.append({"$ref": places[kind]})
    return {"oneOf": alternatives}
