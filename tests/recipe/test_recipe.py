"""Recipes: short forms, dotted settings, every fault at once with its line and a suggestion, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.errors import RecipeError
from tunesmith.methods.base import registry as methods
from tunesmith.recipe.recipe import Recipe
from tunesmith.tasks.base import registry as tasks

LEAST = "task: text_classification\nmodel: some/model\ndata: reviews.csv\n"
BROKEN = Path(__file__).parents[2] / "../shared/data/broken/config"


def read(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.read(path, *overrides)


def faults(tmp_path: Path, text: str, *overrides: str) -> dict[str, tuple[int, str]]:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, *overrides)
    return {fault.path: (fault.line, fault.message) for fault in caught.value.faults}


def test_three_lines_are_enough(tmp_path: Path) -> None:
    recipe = read(tmp_path, LEAST)
    assert recipe.model.name == "some/model"
    assert recipe.data.path == "reviews.csv"
    assert recipe.method == methods.make("lora")
    assert recipe.train.epochs == "auto"
    assert recipe.output == "auto"


def test_a_plugin_is_its_name_with_its_options_beside_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, LEAST + "method:\n  name: lora\n  rank: 16\n")
    assert recipe.method == methods.make({"name": "lora", "rank": 16})
    assert read(tmp_path, LEAST + "method: full\n").method == methods.make("full")


BOXES = "task: object_detection\nmodel: {name: torchvision/fcos, backbone: timm/resnet18}\ndata: cells\n"


def test_a_backbone_goes_below_the_detector_that_the_model_names(tmp_path: Path) -> None:
    recipe = read(tmp_path, BOXES)
    assert getattr(recipe.task, "detector", None) == "fcos"
    assert recipe.model.network == "timm/resnet18"
    assert Recipe.make(recipe.as_dict()) == recipe
    assert read(tmp_path, BOXES.replace("torchvision/", "")).task == recipe.task
    (tmp_path / "net.pth").write_bytes(b"")
    beside = read(tmp_path, BOXES.replace("timm/resnet18", "net.pth"))
    assert beside.model.backbone == str(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("fcos", "fcoss", "model.name", 'Did you mean "fcos"?'),
        ("fcos", "retinanet_resnet50_fpn", "model.name", "leave model.backbone out"),
        ("torchvision/fcos", "timm/resnet50", "model.name", "must be torchvision/faster_rcnn, torchvision/retinanet"),
        ("object_detection", "image_classification", "model.backbone", "Write model: timm/resnet18"),
        ("object_detection", "{name: object_detection, detector: retinanet}", "task.detector", "model.name says, fcos"),
    ],
)
def test_a_backbone_in_the_wrong_place_is_told_with_what_to_write(
    tmp_path: Path, old: str, new: str, path: str, words: str
) -> None:
    found = faults(tmp_path, BOXES.replace(old, new))
    assert list(found) == [path]
    assert found[path][0] in (1, 2)
    assert words in found[path][1]


def test_every_plugin_stands_with_its_defaults() -> None:
    for registry in (tasks, methods):
        for name in registry.names():
            assert registry.make(name).name == name


def test_all_faults_come_at_once_each_with_its_line_and_path(tmp_path: Path) -> None:
    text = "task: text_clasification\nmodel: m\ndatta: d.csv\nmethod:\n  name: lora\n  rnk: 4\n"
    text += "train:\n  epochs: -1\n  warmup: 1.5\n"
    found = faults(tmp_path, text)
    assert {path: line for path, (line, _) in found.items()} == {
        "task": 1,
        "datta": 3,
        "data": 0,
        "method.rnk": 6,
        "train.epochs": 8,
        "train.warmup": 9,
    }
    assert 'Did you mean "text_classification"?' in found["task"][1]
    assert 'Did you mean "data"?' in found["datta"][1]
    assert 'Did you mean "rank"?' in found["method.rnk"][1]
    assert "is missing" in found["data"][1]
    assert "`data: reviews.csv`" in found["data"][1]
    assert found["train.epochs"][1] == 'must be a number above 0 and at most 10,000, or "auto"; found -1.'


def test_the_error_names_file_line_and_path(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, LEAST + "train: {epochs: x}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}:4: train.epochs: must be a number")


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ("train: {learning_rate: .nan}", "train.learning_rate", "found .nan"),
        ("train: {learning_rate: .inf}", "train.learning_rate", "found .inf"),
        ("train: {learning_rate: true}", "train.learning_rate", "found true"),
        ("train: {learning_rate: '0.1'}", "train.learning_rate", 'found "0.1"'),
        ("train: {learning_rate: 1e999}", "train.learning_rate", "found 1e999"),
        ("train: {batch_size: 0}", "train.batch_size", "whole number above 0"),
        ("train: {batch_size: 2.5}", "train.batch_size", "whole number"),
        ("train: {batch_size: [2]}", "train.batch_size", "found a list"),
        ("train: {seed: abc}", "train.seed", 'found "abc"'),
        ("train: {keep_best: no}", "train.keep_best", "must be true or false"),
        ("train: {precision: bflot16}", "train.precision", 'Did you mean "bfloat16"?'),
        ("train: {steps: 5, epochs: 2}", "train", "give epochs or steps, not both"),
        ("train: 5", "train", "settings of the form"),
        ("method: [lora]", "method", "a bare name or settings"),
        ("method: {rank: 4}", "method", "needs a name"),
        ("method: {name: full, rank: 4}", "method.rank", 'is not an option of "full"'),
        ("learning_rate: 0.1", "learning_rate", 'Did you mean "train.learning_rate"?'),
        ("rank: 4", "rank", 'Did you mean "method.rank"?'),
        ("output: ''", "output", "a text that is not empty"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_wanted_and_what_was_found(
    tmp_path: Path, line: str, path: str, words: str
) -> None:
    found = faults(tmp_path, LEAST + line + "\n")
    assert list(found) == [path]
    assert found[path][0] == 4
    assert words in found[path][1]


def test_a_word_keeps_its_written_text_where_a_word_is_wanted(tmp_path: Path) -> None:
    labels = "[no, yes, on, off, null, ~, 1.0, 012, 12:30, 2024-01-01]"
    text = f"task: text_classification\nmodel: 12\ndata:\n  path: 1e5\n  labels: {labels}\n"
    recipe = read(tmp_path, text)
    expected = ("no", "yes", "on", "off", "null", "~", "1.0", "012", "12:30", "2024-01-01")
    assert recipe.data.labels == expected
    assert recipe.model.name == "12"
    assert recipe.data.path == "1e5"


def test_scientific_numbers_are_numbers(tmp_path: Path) -> None:
    recipe = read(tmp_path, LEAST + "train: {learning_rate: 1e-4, batch_size: 1e2}\n")
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.batch_size == 100


def test_a_section_with_nothing_under_it_is_its_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, LEAST + "train:\n") == read(tmp_path, LEAST)


def test_dotted_settings_win_over_the_file(tmp_path: Path) -> None:
    text = LEAST + "method: lora\ntrain: {epochs: 9}\n"
    recipe = read(tmp_path, text, "method.rank=16", "train.epochs=1", "data.limit=50", "data.labels=[no, 1.0]")
    assert recipe.method == methods.make({"name": "lora", "rank": 16})
    assert read(tmp_path, LEAST, "method.rank=16").method == recipe.method
    assert recipe.train.epochs == 1
    assert recipe.data.path == "reviews.csv"
    assert recipe.data.limit == 50
    assert recipe.data.labels == ("no", "1.0")


def test_settings_alone_make_a_recipe() -> None:
    recipe = Recipe.read(None, "task=text_classification", "model=m", "data.path=*.csv", "data.separator=;")
    assert recipe.data.path == "*.csv"
    assert recipe.data.separator == ";"


def test_another_model_and_other_data_keep_what_is_said_beside_them(tmp_path: Path) -> None:
    text = ("task: text_classification\nmodel: {name: a/a, keep_labels: true, revision: abc}\n"
            "data: {path: a.csv, limit: 50, test: old.csv}\n")  # fmt: skip
    found = read(tmp_path, text, "model=b/b", "data=b.csv")
    assert (found.model.name, found.model.keep_labels, found.model.revision) == ("b/b", True, None)
    assert (found.data.path, found.data.limit, found.data.test) == ("b.csv", 50, None)
    whole = read(tmp_path, text, "data={path: b.csv}")
    assert (whole.data.path, whole.data.limit) == ("b.csv", None)


def test_naming_the_method_that_stands_there_keeps_its_options(tmp_path: Path) -> None:
    text = LEAST + "method: {name: lora, rank: 4}\n"
    assert read(tmp_path, text, "method=lora") == read(tmp_path, text)
    assert read(tmp_path, text, "method=full").method == methods.make("full")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("method.rnk=3", 'Did you mean "rank"'),
        ("trian.epochs=3", 'Did you mean "train"'),
        ("train.epochs", "is not a setting; write it as"),
        ("=3", "is not a setting"),
        ("train..epochs=3", "is not a setting"),
        ("train.epochs.x=3", "train.epochs"),
        ("data.labels=[a, b", "data.labels"),
        (f"train.seed={'9' * 50}", "50 digits"),
        ("train.epochs=0", "(given on the command line)"),
    ],
)
def test_a_wrong_setting_is_told_with_a_suggestion(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, LEAST, setting)
    assert words in str(caught.value)


def test_paths_in_a_file_are_sought_beside_it_when_nothing_is_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (there / "reviews.csv").touch()
    (there / "parts").mkdir()
    (there / "parts" / "a.csv").touch()
    (there / "some").mkdir()
    monkeypatch.chdir(here)
    assert read(there, LEAST).data.path == str(there / "reviews.csv")
    assert read(there, LEAST, "data=reviews.csv").data.path == "reviews.csv"
    text = LEAST.replace("data: reviews.csv", "data: {path: parts/*.csv, test: none.csv}")
    recipe = read(there, text)
    assert recipe.data.path == str(there / "parts/*.csv")
    assert recipe.data.test == "none.csv"
    assert recipe.model.name == "some/model"
    (here / "reviews.csv").touch()
    assert read(there, LEAST).data.path == "reviews.csv"


def test_objects_may_stand_for_their_sections() -> None:
    recipe = Recipe.make(
        {
            "task": tasks.make("text_classification"),
            "model": Path("m"),
            "data": {"path": Path("d.csv"), "labels": ["a", "b"]},
            "method": methods.make({"name": "lora", "rank": 2}),
        }
    )
    assert recipe.as_dict()["method"]["rank"] == 2
    assert recipe.data.labels == ("a", "b")
    assert recipe.model.name == "m"


def test_a_made_recipe_cannot_be_changed() -> None:
    recipe = Recipe.make({"task": "text_classification", "model": "m", "data": "d"})
    with pytest.raises(ValueError, match="frozen"):
        recipe.output = "x"


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\u2028\u2029"), min_size=1, max_size=9
)
odd_words = st.sampled_from(
    ["no", "1e-4", "1.0", "012", "null", "~", "true", "<<", "a: b", "- x", "#", "!", " x ", "'"]
)
texts = words | odd_words
shares = st.floats(0, 0.45)


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    maybe = lambda strategy: draw(st.none() | strategy)  # noqa: E731
    data = {
        "path": draw(texts),
        "validation": maybe(texts),
        "label_separator": maybe(texts),
        "labels": maybe(st.lists(texts, min_size=2, max_size=5, unique=True)),
        "columns": {"text": maybe(texts), "label": maybe(texts)},
        "split": {"validation": draw(shares), "test": draw(shares), "seed": draw(st.integers(0, 2**63 - 1))},
        "limit": maybe(st.integers(1, 10**9)),
    }
    train = {
        "learning_rate": draw(st.just("auto") | st.floats(1e-12, 10)),
        "batch_size": draw(st.just("auto") | st.integers(1, 65_536)),
        "keep_best": draw(st.booleans()),
        "schedule": draw(st.sampled_from(["linear", "cosine", "constant"])),
        "seed": draw(st.integers(0, 2**31 - 1)),
    }
    weights = draw(st.just("balanced") | st.dictionaries(texts, st.floats(0.1, 9), max_size=3))
    return {
        "task": {"name": "text_classification", "class_weights": weights},
        "model": {"name": draw(texts), "revision": maybe(texts)},
        "data": data,
        "method": draw(st.sampled_from(methods.names())),
        "train": train,
        "output": draw(texts),
    }


@settings(max_examples=25, deadline=None)
@given(recipes())
def test_as_dict_is_read_back_to_an_equal_recipe(given_settings: dict[str, Any]) -> None:
    recipe = Recipe.make(given_settings)
    assert Recipe.make(recipe.as_dict()) == recipe


@settings(max_examples=25, deadline=None)
@given(recipes())
def test_a_recipe_written_as_yaml_is_read_back_to_an_equal_one(
    tmp_path_factory: pytest.TempPathFactory, given_settings: dict[str, Any]
) -> None:
    recipe = Recipe.make(given_settings)
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict(), allow_unicode=True, sort_keys=False), encoding="utf-8")
    assert Recipe.read(path) == recipe


@pytest.mark.skipif(not BROKEN.is_dir(), reason="shared/data/broken is not beside the checkout")
def test_every_bad_key_of_the_broken_recipes_is_named_with_where_it_belongs() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.read(BROKEN / "bad_values.yaml")
    named = {fault.path: fault.message for fault in caught.value.faults if fault.line}
    assert list(named) == ["learning_rate", "epochs", "batch_size", "max_length", "seed", "warmup"]
    assert all("Did you mean" in message for message in named.values())
    with pytest.raises(RecipeError, match=r"unknown_key.yaml:1: learnig_rate: .* Did you mean \"train.learning_rate\""):
        Recipe.read(BROKEN / "unknown_key.yaml")


@pytest.mark.skipif(not BROKEN.is_dir(), reason="shared/data/broken is not beside the checkout")
@pytest.mark.parametrize("name", ["bad_values.yaml", "inf_lr.yaml"])
def test_the_broken_values_are_refused_in_their_right_place_too(name: str, tmp_path: Path) -> None:
    lines = [line for line in (BROKEN / name).read_text().splitlines() if "max_length" not in line]
    found = faults(tmp_path, LEAST + "train:\n" + "".join(f"  {line}\n" for line in lines))
    assert list(found) == [f"train.{line.partition(':')[0]}" for line in lines]


def test_a_word_in_a_list_is_named_with_what_it_may_be(tmp_path: Path) -> None:
    least = LEAST.replace("text_classification", "causal_lm")
    _, said = faults(tmp_path, least, "task.answers.scores=[exact_match, rouge]")["task.answers.scores"]
    assert 'found "rouge" (at item 2). Did you mean "rouge_l"?' in said
    assert '"normalised_match"' in said
    _, said = faults(tmp_path, least, "task.answers.scores=rouge_l")["task.answers.scores"]
    assert "Write it as a list: [rouge_l]" in said
    _, said = faults(tmp_path, least, "task.answers.rwos=2")["task.answers.rwos"]
    assert 'Did you mean "rows"?' in said
