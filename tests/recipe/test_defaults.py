"""What `auto` becomes, with its source, and that a person's own values are never touched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tunesmith.errors import RecipeError
from tunesmith.methods.base import registry
from tunesmith.recipe.defaults import Facts, resolve
from tunesmith.recipe.recipe import Recipe

FACTS = Facts(1780, {"a": 890, "b": 890}, (90, 300, 700), 512, 384, False, 2)


def made(**changes: Any) -> Recipe:
    return Recipe.make({"task": "text_classification", "model": "m/m", "data": "x.csv", **changes})


@pytest.mark.parametrize("method", registry.names())
def test_nothing_is_auto_afterwards_and_each_value_has_its_source(method: str) -> None:
    before = made(method=method)
    after, origins = resolve(before, FACTS)
    filled = [k for k, v in before.as_dict()["train"].items() if v == "auto"]
    assert filled
    assert all(origins[f"train.{key}"] for key in filled)
    assert '"auto"' not in json.dumps(after.as_dict()["train"])
    assert after.task.max_length == 128  # type: ignore[attr-defined]


def test_own_values_stay() -> None:
    train = {"learning_rate": 0.5, "batch_size": 3, "epochs": 7, "precision": "bfloat16", "threads": 1}
    after, origins = resolve(made(train=train), FACTS)
    assert {key: getattr(after.train, key) for key in train} == train
    assert not {f"train.{key}" for key in train} & set(origins)


@pytest.mark.parametrize(("shared", "workers"), [(1 << 40, 7), (64 << 20, 0), (400 << 20, 5)])
def test_beside_an_accelerator_pictures_get_as_many_workers_as_shared_memory_holds(shared: int, workers: int) -> None:
    facts = replace(FACTS, accelerator=True, cores=8, lengths=(196, 196, 196), shared=shared)
    after, origins = resolve(made(task="image_classification", train={"batch_size": 32}), facts)
    assert after.train.workers == workers
    assert ("shared memory" in origins["train.workers"]) == (workers < 7)


def test_resolving_again_changes_nothing() -> None:
    once, _ = resolve(made(), FACTS)
    twice, origins = resolve(once, replace(FACTS, train_examples=5, threads=9))
    assert twice == once
    assert origins == {}


def test_wider_models_take_lower_rates() -> None:
    def rate(method: str, hidden: int) -> float:
        return float(resolve(made(method=method), replace(FACTS, hidden_size=hidden))[0].train.learning_rate)

    assert rate("full", 768) == pytest.approx(rate("full", 384) / 2)
    assert rate("lora", 768) == pytest.approx(rate("lora", 384) / 2**0.5, rel=0.05)
    assert rate("full", 128) == rate("full", 384)


@pytest.mark.parametrize(("method", "power"), [("full", 1.0), ("lora", 0.5), ("prefix_tuning", 0.5)])
def test_a_language_model_takes_a_methods_own_rate_for_it(method: str, power: float) -> None:
    def rate(hidden: int, task: str = "causal_lm") -> Any:
        return resolve(made(method=method, task=task), replace(FACTS, hidden_size=hidden, class_counts={}))[0].train

    own = registry.get(method).language_learning_rate
    assert own is not None
    assert rate(576).learning_rate == rate(384).learning_rate == own
    assert rate(4608).learning_rate == pytest.approx(own / 8**power, rel=0.05)  # of two digits
    assert rate(576, "preference").learning_rate == pytest.approx(own / 10, rel=0.05)


def test_few_examples_are_seen_more_often_and_many_at_least_twice() -> None:
    def epochs(rows: int, classes: int = 2) -> float:
        counts = {str(i): 1 for i in range(classes)}
        return float(resolve(made(), replace(FACTS, train_examples=rows, class_counts=counts))[0].train.epochs)

    assert [epochs(n) for n in (50, 500, 1780, 100_000)] == [20, 7, 2, 2]
    assert epochs(10_000, classes=77) == 3


def test_a_rate_for_the_head_method_is_the_heads() -> None:
    after, _ = resolve(made(method="head", train={"learning_rate": 0.01}), FACTS)
    assert after.train.head_learning_rate == 0.01


def test_where_a_head_starts_is_settled_with_its_rate() -> None:
    pictures = {"task": "image_classification", "method": "head"}
    drawn, why = resolve(made(**pictures), FACTS)
    assert (drawn.task.head_start, drawn.train.learning_rate) == ("drawn", 1e-2)  # type: ignore[attr-defined]
    assert why["task.head_start"] == FACTS.starts
    found, _ = resolve(made(**pictures), replace(FACTS, starts=""))
    assert (found.task.head_start, found.train.learning_rate) == ("discriminant", 2e-3)  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=r"task\.head_start: discriminant was asked for, but"):
        resolve(made(task={"name": "image_classification", "head_start": "discriminant"}), FACTS)


def test_max_length_leaves_room_for_what_a_method_adds() -> None:
    task = {"name": "text_classification", "max_length": 512}
    assert resolve(made(task=task), FACTS)
    with pytest.raises(RecipeError, match="at most 492"):
        resolve(made(task=task, method="prompt_tuning"), FACTS)


def test_balanced_class_weights_are_written_out() -> None:
    task = {"name": "text_classification", "class_weights": "balanced"}
    after, origins = resolve(made(task=task), replace(FACTS, class_counts={"a": 300, "b": 100}))
    assert after.task.class_weights == {"a": 0.666667, "b": 2.0}  # type: ignore[attr-defined]
    assert "task.class_weights" in origins


def test_a_weight_of_no_class_is_refused_with_the_class_that_was_meant() -> None:
    facts = replace(FACTS, class_counts={"dog": 3, "cat": 9})
    with pytest.raises(RecipeError, match=r'"dgo" is no class of the data.*"dog"'):
        resolve(made(task={"name": "text_classification", "class_weights": {"dgo": 5.0}}), facts)
    with pytest.raises(RecipeError, match="class_weights"):
        made(task={"name": "text_classification", "class_weights": {"dog": -1.0}})
    kept, _ = resolve(made(task={"name": "text_classification", "class_weights": {"dog": 5.0}}), facts)
    assert kept.task.class_weights == {"dog": 5.0}  # type: ignore[attr-defined]
