"""What a search may change: as it is written, checked, filled in and turned into settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import RecipeError, RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.book import open_book
from tunesmith.run.search.checks import checked, drawn_in
from tunesmith.run.search.defaults import filled_in
from tunesmith.run.search.space import Dimension, is_active, parse_over, read_space, settings
from tunesmith.tasks import base as tasks
from tunesmith.tasks._preference import Terms
from tunesmith.types import MainScore

RECIPE = Recipe.make({"task": "text_classification", "model": "a-model", "data": "reviews.csv", "method": "lora"})
RESOLVED = RECIPE.changed("train.learning_rate=0.001", "train.epochs=3", "train.batch_size=16")


def space(*texts: str) -> tuple[Dimension, ...]:
    return checked([parse_over(text) for text in texts], RECIPE)


def test_a_range_reads_its_ends_and_its_logarithm() -> None:
    found = parse_over("train.learning_rate=1e-4..1e-2:log")
    assert (found.path, found.low, found.high, found.log) == ("train.learning_rate", 1e-4, 1e-2, True)
    assert parse_over("train.warmup=0..0.2").high == 0.2
    assert parse_over("train.warmup=.05..0.2:step=.05").step == 0.05


def test_a_step_that_does_not_reach_the_end_moves_it() -> None:
    assert parse_over("train.epochs=1..6:step=2").high == 5


def test_a_setting_that_takes_whole_numbers_gets_whole_numbers() -> None:
    rank, decay = space("method.rank=4..16", "train.weight_decay=0..1")
    assert rank.whole
    assert not decay.whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.epochs", "is no dimension"),
        ("train.epochs=", "is no dimension"),
        ("train.epochs=5..2", "low end 5 must be below"),
        ("train.epochs=0..2:log", "begins above 0"),
        ("train.epochs=1..2:lag", "is not known; a range may end in :log"),
        ("train.epochs=1..2:step=0", "step=NUMBER above 0"),
        ("train.epochs=1..2:step=3", "wider than the range"),
        ("train.epochs=1..9:log:step=2", "either on the logarithm or in steps"),
        ("train.epochs=1..x", "is no range"),
        ("train.epochs=3", "two choices at least"),
        ("train.epochs=3,3", "stands twice"),
    ],
)
def test_what_is_written_wrongly_is_said(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_over(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.learning_rat=1e-4..1e-2", 'Did you mean "learning_rate"'),
        ("method.rnk=4,8", "is not an option of"),
        ("method=lora,lorra", 'Did you mean "lora"'),
        ("method.rank=0..8", "at least 1"),
        ("method.rank=1.5..8", "whole numbers only"),
        ("train.schedule=linear,cosin", 'Did you mean "cosine"'),
        ("train.seed=1,2", "another seed is noise"),
        ("data.split.seed=1,2", "same validation examples"),
        ("retention.strength=1..2", "has no retention"),
        ("output=a,b", "a folder of its own"),
        ("data=a.csv,b.csv", "validation examples too"),
        ("data.limit=100,200", "validation examples too"),
        ("data.columns.text=title,body", "validation examples too"),
    ],
)
def test_what_the_recipe_does_not_take_is_said(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        space(text)


LANGUAGE = {
    name: Recipe.make({"task": name, "model": "a-model", "data": "chats.jsonl", "method": "lora"})
    for name in ("preference", "causal_lm")
}


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("preference", "task.beta=0.05..0.5:log"),
        ("preference", "task.objective=dpo,ipo"),
        ("preference", "task.label_smoothing=0..0.1"),
        ("preference", "task.label_smoothing=default"),
        ("preference", "task.max_length=128,256"),
        ("causal_lm", "task.train_on=responses,all"),
        ("causal_lm", "task.max_length=128,256"),
        ("causal_lm", "task.overlong=cut,drop"),
        ("causal_lm", "task.template=chatml,auto"),
        ("causal_lm", "model=one-model,another-model"),
    ],
)
def test_what_the_main_score_is_measured_with_is_no_setting_to_search_over(task: str, text: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot be searched over: .* the main score \(loss\) is measured"):
        checked([parse_over(text)], LANGUAGE[task])


def test_what_only_changes_how_a_task_is_learned_may_be_searched_over() -> None:
    for text in ("task.neftune=0..10", "train.learning_rate=1e-4..1e-3:log"):
        assert checked([parse_over(text)], LANGUAGE["causal_lm"])
    assert space("task.label_smoothing=0..0.1", "task.max_length=64,128")


def test_what_a_task_names_as_its_ruler_are_options_of_it() -> None:
    for name in tasks.registry.names():
        task = tasks.registry.get(name)
        assert set(task.ruler) <= set(task.model_fields)
    assert set(Terms.__dataclass_fields__) <= set(tasks.registry.get("preference").ruler), "all that the loss holds"


@pytest.mark.parametrize("task", ["preference", "causal_lm"])
def test_the_default_space_of_a_language_model_measures_every_trial_alike(task: str) -> None:
    recipe = LANGUAGE[task]
    resolved = recipe.changed("train.learning_rate=0.001", "train.epochs=3", "train.batch_size=16")
    found = filled_in((), recipe, resolved)
    assert {d.path for d in found} == {"train.learning_rate", "train.epochs", "train.batch_size", "method.rank",
                                       "method.dropout"}  # fmt: skip
    assert checked(found, recipe)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        space("train.learning_rat=1..2", "method.rank=0..8", "train.seed=1,2")
    assert len(caught.value.faults) == 3


def test_an_option_of_one_method_is_drawn_only_where_the_method_has_it() -> None:
    found = space("method=lora,full,prefix_tuning", "method.rank=4,8", "method.length=10,20")
    rank, length = found[1:]
    assert is_active(rank, {"method": "lora"}, RECIPE)
    assert not is_active(rank, {"method": "full"}, RECIPE)
    assert is_active(length, {"method": "prefix_tuning"}, RECIPE)
    assert is_active(rank, {}, RECIPE), "the recipe's own method is lora"


def test_an_option_that_no_method_of_the_search_has_is_a_fault() -> None:
    with pytest.raises(RecipeError, match="no method of this search has this option"):
        space("method=full,head", "method.rank=4,8")


def test_settings_put_the_method_before_its_options() -> None:
    found = space("method.rank=4,8", "method=lora,full", "train.learning_rate=1e-4..1e-2:log")
    made = settings(found, {"method.rank": "8", "method": "lora", "train.learning_rate": 0.0012})
    assert made == ("method=lora", "method.rank=8", "train.learning_rate=0.0012")
    assert RECIPE.changed(*made).method.model_dump()["rank"] == 8


def test_choices_may_be_lists_and_quoted_words() -> None:
    (found,) = space("method.targets=all,[query,value]")
    assert found.choices == ("all", '["query", "value"]')
    changed = RECIPE.changed(f"method.targets={found.choices[1]}")
    assert list(changed.method.model_dump()["targets"]) == ["query", "value"]


def test_a_file_holds_the_same_lines(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text('train.learning_rate: "1e-4..1e-2:log"\nmethod.rank: [4, 8, 16]\nmethod: lora,full\n')
    texts = ("train.learning_rate=1e-4..1e-2:log", "method.rank=4,8,16", "method=lora,full")
    assert read_space(file) == [parse_over(text) for text in texts]
    file.write_text("train:\n  learning_rate: 1..2\n")
    with pytest.raises(RecipeError, match="write whole paths"):
        read_space(file)


@pytest.mark.parametrize("method", ["lora", "full", "head", "prefix_tuning", "adalora", "vera", "ia3"])
def test_the_default_space_holds_the_default_and_every_value_of_it_is_a_recipe(method: str) -> None:
    recipe = RECIPE.changed(f"method={method}")
    resolved = recipe.changed("train.learning_rate=0.001", "train.epochs=3", "train.batch_size=16")
    found = filled_in((), recipe, resolved)
    assert set(drawn_in(found, resolved, recipe)) == {d.name for d in found}, "the default is a point of the space"
    assert checked(found, recipe)
    rate = next(d for d in found if d.path == "train.learning_rate")
    assert rate.low < 0.001 < rate.high
    assert all(d.why for d in found)


def test_each_method_of_a_search_gets_a_rate_around_its_own() -> None:
    resolved = RESOLVED.changed("train.learning_rate=0.0005")
    found = filled_in(space("method=lora,full", "train.learning_rate=default"), RECIPE, resolved)
    rates = {d.method: (d.low, d.high) for d in found if d.path == "train.learning_rate"}
    # lora's rate fell from 1e-3 to 5e-4, by half; that of weights themselves falls with the square: 1e-4 to 2.5e-5.
    assert rates == {"lora": (6.3e-05, 0.004), "full": (3.1e-06, 0.0002)}


def test_a_path_without_a_default_is_said() -> None:
    with pytest.raises(RecipeError, match=r"train\.warmup: has no default range"):
        filled_in(space("train.warmup=default"), RECIPE, RESOLVED)


def test_a_value_outside_the_space_is_no_point_of_it() -> None:
    found = space("train.learning_rate=1e-2..1e-1:log", "method.rank=8,16")
    assert drawn_in(found, RESOLVED, RECIPE) == {"method.rank": "8"}


def test_drawn_numbers_are_tidy_and_within_the_range() -> None:
    found = Dimension("train.learning_rate", 0.00123456, 0.0123456, log=True)
    assert found.tidy(0.004567891) == 0.004568
    assert found.tidy(0.00123456) == 0.001235
    assert found.tidy(0.0123456) == 0.0123456 or found.tidy(0.0123456) <= 0.0123456


def test_a_search_that_an_older_version_began_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    def began(folder: Path, recipe: Recipe, space: list[Dimension], **changes: Any) -> Path:
        book, _ = open_book(folder, recipe, (), forgetting=bool(changes), pruning="asha")
        book.settled(space, MainScore("loss", "lower"), "rows")
        held = json.loads((folder / "search.json").read_text()) | changes
        (folder / "search.json").write_text(json.dumps({key: v for key, v in held.items() if v is not None}))
        return folder

    for name in ("preferred", "held", "plain"):
        (tmp_path / name).mkdir()
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    bare = {"model": "m", "data": str(tmp_path / "data.csv")}
    preferred = Recipe.make({"task": "preference", **bare})
    place = began(tmp_path / "preferred", preferred, [Dimension("task.label_smoothing", low=0.0, high=0.1)])
    with pytest.raises(RunError, match=r"older version that searched over task\.label_smoothing"):
        open_book(place, preferred, (), forgetting=False, pruning="asha")
    held = Recipe.make({"task": "text_classification", **bare, "retention": "wise_ft"})
    place = began(tmp_path / "held", held, [], forgetting=True)
    assert open_book(place, held, (), forgetting=True, pruning="asha")[1], "one of now goes on"
    old = json.loads((place / "search.json").read_text())
    del old["version"]
    (place / "search.json").write_text(json.dumps(old))
    with pytest.raises(RunError, match="what old tasks lost on the test part"):
        open_book(place, held, (), forgetting=True, pruning="asha")
    plain = Recipe.make({"task": "text_classification", **bare})
    place = began(tmp_path / "plain", plain, [])
    old = json.loads((place / "search.json").read_text())
    del old["version"]
    (place / "search.json").write_text(json.dumps(old))
    assert open_book(place, plain, (), forgetting=False, pruning="asha")[1]
