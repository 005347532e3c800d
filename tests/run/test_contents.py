"""What counts as changed: everything that data, models and old tasks are read from, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.absolute import absolute
from tunesmith.run.contents import _of_pictures, contents, old_contents


def hashes(settings: dict[str, Any]) -> dict[str, str]:
    return contents(absolute(Recipe.make(settings)).as_dict())


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A YOLO data set of one picture, named by its data.yaml."""
    for place in ("images/train", "labels/train", "runs"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "images/train/a.jpg").write_bytes(b"picture")
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.1 0.1", "utf-8")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [cell]\n", "utf-8")
    return tmp_path


def test_a_label_behind_a_data_yaml_counts_and_what_lies_beside_does_not(boxes: Path) -> None:
    settings = {"task": "object_detection", "model": "some", "data": str(boxes / "data.yaml"), "method": "head"}
    first = hashes(settings)
    assert str(boxes / "data.yaml") in first
    (boxes / "runs/new.txt").write_text("a run's", "utf-8")
    assert hashes(settings) == first
    (boxes / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.1", "utf-8")
    second = hashes(settings)
    assert second != first
    (boxes / "images/train/a.jpg").write_bytes(b"another")
    assert hashes(settings) != second


@pytest.mark.parametrize("train", ["/", ".", "../", "/etc", "../elsewhere"])
def test_nothing_outside_a_data_set_is_read(boxes: Path, train: str) -> None:
    (boxes / "data.yaml").write_text(f"train: {train}\nnames: [cell]\n", "utf-8")
    assert list(_of_pictures(boxes / "data.yaml")) == []


@pytest.mark.parametrize("changed", ["boats.yaml", "common.yaml", "boats.jsonl"])
def test_a_harness_tasks_own_files_count(tmp_path: Path, changed: str) -> None:
    (tmp_path / "boats.yaml").write_text(
        "task: boats\ninclude: common.yaml\ndataset_path: json\ndataset_kwargs: {data_files: {test: boats.jsonl}}\n"
        "filter: !other x\n", "utf-8")  # fmt: skip
    (tmp_path / "common.yaml").write_text("include: boats.yaml\n", "utf-8")  # that it includes itself is said later
    (tmp_path / "boats.jsonl").write_text("{}", "utf-8")
    settings = {"task": "causal_lm", "model": "some", "data": "some.jsonl", "method": "lora",
                "forgetting": {"old_tasks": [f"harness:{tmp_path / 'boats.yaml'}"]}}  # fmt: skip
    first = old_contents(absolute(Recipe.make(settings)).as_dict())
    assert first
    (tmp_path / changed).write_text("task: boats\nother: 1\n", "utf-8")
    assert old_contents(absolute(Recipe.make(settings)).as_dict()) != first


def test_the_network_below_a_detector_counts(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/model.safetensors").write_bytes(b"1")
    settings = {"task": "object_detection", "data": "boxes", "method": "head",
                "model": {"name": "retinanet", "backbone": str(tmp_path / "net")}}  # fmt: skip
    first = hashes(settings)
    (tmp_path / "net/model.safetensors").write_bytes(b"2")
    assert hashes(settings) != first


def test_words_stay_words_and_all_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("auto", "texts", "boolq", "pictures", "new.csv", "boats.yaml"):
        Path(name).mkdir()
    olds = ["auto", {"source": "texts", "data": {"path": "new.csv", "test": "new.csv"}}, "harness:boolq",
            "harness:boats.yaml"]  # fmt: skip
    data = {"path": "new.csv", "pictures": "pictures"}
    made = Recipe.make({"task": "image_classification", "model": "some", "data": data, "method": "head",
                        "forgetting": {"old_tasks": olds}})  # fmt: skip
    whole = absolute(made)
    assert whole.data.pictures == str(tmp_path / "pictures")
    first, second, third, fourth = whole.forgetting.old_tasks
    assert (first.source, second.source, third.source) == ("auto", "texts", "harness:boolq")
    assert fourth.source == f"harness:{tmp_path / 'boats.yaml'}"
    assert second.data is not None
    assert second.data.path == second.data.test == str(tmp_path / "new.csv")


def test_words_beside_the_recipe_file_stay_words(tmp_path: Path) -> None:
    (tmp_path / "auto").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "held.csv").touch()
    (tmp_path / "recipe.yaml").write_text(
        "task: image_classification\nmodel: some\nmethod: head\ndata: {path: x.csv, pictures: pictures}\n"
        "forgetting:\n  old_tasks:\n    - auto\n    - {source: old, data: {path: y.csv, test: held.csv}}\n",
        "utf-8",
    )
    made = Recipe.read(tmp_path / "recipe.yaml")
    assert made.data.pictures == str(tmp_path / "pictures")
    first, second = made.forgetting.old_tasks
    assert first.source == "auto"
    assert second.data is not None
    assert second.data.test == str(tmp_path / "held.csv")


@pytest.mark.parametrize("source", ["texts", "auto"])
def test_how_data_without_labels_are_divided_is_written_out(source: str) -> None:
    given = {"source": source, "data": "news.csv"}
    settings = {"task": "causal_lm", "model": "some", "data": "x.jsonl", "method": "lora",
                "forgetting": {"old_tasks": [given]}}  # fmt: skip
    made = Recipe.make(settings)
    data = made.forgetting.old_tasks[0].data
    assert data is not None
    assert (data.split.validation, data.split.test) == (0.25, 0.5)
    assert Recipe.make(made.as_dict()) == made
    own = {"source": source, "data": {"path": "news.csv", "split": {"test": 0.2}}}
    data = Recipe.make({**settings, "forgetting": {"old_tasks": [own]}}).forgetting.old_tasks[0].data
    assert data is not None
    assert (data.split.validation, data.split.test) == (0.1, 0.2)


def test_what_only_a_task_file_names_is_not_read_from_a_received_data_yaml(boxes: Path) -> None:
    (boxes / "data.yaml").write_text(
        "train: images/train\nnames: [cell]\ninclude: more.yaml\ndataset_kwargs: {data_files: [/dev/zero, x.jsonl]}\n"
    )
    (boxes / "x.jsonl").write_text("{}")
    (boxes / "more.yaml").write_text("{}")
    found = [place.relative_to(boxes.resolve()).as_posix() for place in _of_pictures(boxes / "data.yaml")]
    assert found == ["images/train", "labels/train"]


def test_what_is_no_file_is_not_read_for_a_task(tmp_path: Path) -> None:
    (tmp_path / "boats.yaml").write_text("task: boats\ndataset_kwargs: {data_files: [/dev/zero]}\ninclude: /dev/zero\n")
    settings = {"task": "causal_lm", "model": "some", "data": "some.jsonl", "method": "lora",
                "forgetting": {"old_tasks": [f"harness:{tmp_path / 'boats.yaml'}"]}}  # fmt: skip
    assert old_contents(absolute(Recipe.make(settings)).as_dict())


BOMB = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else 'images/train'] * 10)}]\n" for n in range(9))
HOSTILE = {
    "bomb": BOMB + "path: *x8\ntrain: *x8\n",
    "deep": "train: " + "[" * 2000 + "]" * 2000,
    "long": "train: [" + "images" * 100_000 + "]",
    "name": "train: [" + "x" * 900 + "]\npath: " + "y" * 300,
    "zero": 'train: ["a\\0b"]\npath: "\\0"',
    "round": "train: [loop, loop/x]\npath: loop",
    "large": "train: images/train\n" + "#" * 2**23,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_data_yaml_ends(boxes: Path, name: str) -> None:
    (boxes / "loop").symlink_to("loop")
    (boxes / "data.yaml").write_text(HOSTILE[name], "utf-8")
    found = [place.relative_to(boxes.resolve()).as_posix() for place in _of_pictures(boxes / "data.yaml")]
    assert found == (["images/train", "labels/train"] if name == "bomb" else [])


def test_labels_are_looked_for_inside_even_where_a_folder_above_is_called_images(tmp_path: Path) -> None:
    for place in ("images/set/train", "labels/set/train"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "images/set/data.yaml").write_text("train: train\nnames: [cell]\n", "utf-8")
    found = list(_of_pictures(tmp_path / "images/set/data.yaml"))
    assert found == [(tmp_path / "images/set/train").resolve()]
