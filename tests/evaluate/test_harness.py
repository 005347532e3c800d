"""Tasks of the lm-evaluation-harness: the scores are its own, and what could go wrong is refused in words."""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.harness_files import MEAN, question, write_choices, write_questions
from tests.tiny_language_model import write_tiny_language_model

from tunesmith.errors import DataError, RecipeError, TunesmithError
from tunesmith.evaluate.harness import open_harness
from tunesmith.evaluate.harness_tasks import named
from tunesmith.models.causal import find_causal, load_causal
from tunesmith.train.device import Device
from tunesmith.types import Pretrained

pytest.importorskip("lm_eval", reason="the harness extra is not installed")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return load_causal(find_causal(str(write_tiny_language_model(tmp_path_factory.mktemp("talker")))))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def alone(talker: Pretrained, path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """What the harness says by itself of the same model: each metric's value."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with monkeypatch.context() as here:
        here.chdir(path.parent)  # it looks for data there
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=talker.model, tokenizer=copy.deepcopy(talker.processor), batch_size=4),
            tasks=[path.stem],
            task_manager=TaskManager(include_path=path.parent, include_defaults=False),
            bootstrap_iters=0,
            **options,
        )
    return dict(found["results"][path.stem])


def test_choices_are_scored_as_the_harness_scores_them(
    talker: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_choices(tmp_path / "t")
    task = open_harness(f"harness:{path}", tmp_path / "w")
    answers = task.answers(talker.model, talker.processor, Device())
    assert answers.shape == (14, 2)
    assert answers.dtype == np.float32
    told = alone(talker, path, monkeypatch)
    assert task.score(answers) == {"acc": told["acc,none"], "acc_norm": told["acc_norm,none"]}
    assert 0 < told["acc,none"] < 1
    assert (task.main.name, task.main.better) == ("acc", "higher")
    few = open_harness(str(path), tmp_path / "w", 5)
    np.testing.assert_array_equal(few.answers(talker.model, talker.processor, Device()), answers[:5])
    assert few.score(answers[:5])["acc"] == alone(talker, path, monkeypatch, limit=5)["acc,none"]
    assert "the first 5 of 14 documents" in few.definition


def test_written_answers_are_scored_as_the_harness_scores_them(
    talker: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = talker.model, talker.processor
    said = []
    for number in range(6):
        ids = tokenizer(question(number), return_tensors="pt")["input_ids"]
        written = model.generate(ids, max_new_tokens=8, do_sample=False)[0][ids.shape[1] :]  # type: ignore[operator]
        said.append(tokenizer.decode(written, skip_special_tokens=True).split("\n\n")[0])
    wanted = [text if number < 4 else "something else" for number, text in enumerate(said)]
    path = write_questions(tmp_path / "t", wanted)
    task = open_harness(str(path), tmp_path / "w")
    answers = task.answers(model, tokenizer, Device())
    assert task.score(answers) == {"exact_match": alone(talker, path, monkeypatch)["exact_match,none"]}
    assert answers[:, 0].tolist() == [1, 1, 1, 1, 0, 0]


def test_each_filter_of_several_has_a_score(talker: Pretrained, tmp_path: Path) -> None:
    first = {"function": "take_first"}
    filters = [{"name": "strict", "filter": [first]}, {"name": "lower", "filter": [{"function": "lowercase"}, first]}]
    path = write_questions(tmp_path / "t", ["a"] * 3, filter_list=filters)
    task = open_harness(str(path), tmp_path / "w")
    assert list(task.score(task.answers(talker.model, talker.processor, Device()))) == [
        "exact_match,strict",
        "exact_match,lower",
    ]


def test_what_is_no_mean_over_documents_is_left_out_and_told(talker: Pretrained, tmp_path: Path) -> None:
    perplexity = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}
    both = {"output_type": "loglikelihood", "doc_to_choice": None, "doc_to_target": " {{answer}}"}
    path = write_choices(tmp_path / "t", **both, metric_list=[perplexity, {"metric": "acc", **MEAN}])
    task = open_harness(str(path), tmp_path / "w")
    assert task.main.name == "acc"
    assert "Left out, since no mean over documents: perplexity." in task.definition
    with pytest.raises(DataError, match="scored by perplexity alone"):
        open_harness(str(write_choices(tmp_path / "u", **both, metric_list=[perplexity])), tmp_path / "w")


def test_the_model_and_all_generators_are_left_as_they_were(
    talker: Pretrained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = {"num_fewshot": 2, "fewshot_split": "test", "generation_kwargs": {"do_sample": True, "temperature": 0.9,
             "until": ["\n"], "max_gen_toks": 4}}  # fmt: skip
    path = write_questions(tmp_path / "t", ["a"] * 6, **shown)
    weights = {name: tensor.clone() for name, tensor in talker.model.state_dict().items()}
    padding = talker.processor.pad_token, talker.processor.padding_side
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # type: ignore[index]
    task = open_harness(str(path), tmp_path / "w")
    first, again = (task.answers(talker.model, talker.processor, Device()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())  # type: ignore[index]
    assert padding == (talker.processor.pad_token, talker.processor.padding_side)
    for name, tensor in talker.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert capfd.readouterr() == ("", "")


def test_a_prompt_that_does_not_fit_is_told(talker: Pretrained, tmp_path: Path) -> None:
    path = write_choices(tmp_path / "t", rows=3, description="over and over " * 40)
    task = open_harness(str(path), tmp_path / "w")
    task.answers(talker.model, talker.processor, Device())
    assert "lost their start" in task.definition
    written = write_questions(tmp_path / "t", ["a"], generation_kwargs={"until": ["\n"], "max_gen_toks": 900})
    with pytest.raises(DataError, match=r"cannot be asked of this model .*maximum sequence length"):
        open_harness(str(written), tmp_path / "w").answers(talker.model, talker.processor, Device())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unsafe_code": True}, "unsafe_code"),
        ({"dataset_kwargs": {"data_files": "boats.jsonl", "trust_remote_code": True}}, "trust_remote_code"),
        ({"generation_kwargs": {"custom_generate": "a/b"}}, "custom_generate"),
        ({"class": "somewhere.Task"}, "Python program"),
        ({"doc_to_image": "picture"}, "pictures or sounds"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "program outside the harness"),
        ({"metric_list": [{"metric": "no_such_metric"}]}, "program outside the harness"),
        ({"metric_list": [{"metric": "someone/metric"}], "process_results": "x"}, "program outside the harness"),
        ({"metric_list": ["acc"]}, "cannot be read"),
        ({"group": "several", "task": ["a", "b"]}, "named one by one"),
        ({"task": None}, "names no task"),
        ({"dataset_kwargs": {"data_files": "gone.jsonl"}}, "neither beside the task file"),
        ({"dataset_kwargs": None}, "needs its files"),
        ({"dataset_path": "pandas"}, "it must be json"),
        ({"dataset_path": "someone/boats", "dataset_kwargs": None}, "not in the local cache.*harness:hf:"),
        ({"test_split": "other"}, "cannot be read"),
        ({"doc_to_text": "{{ question.__class__.__mro__ }}"}, "unsafe"),
        ({"include": "boats.yaml"}, "includes itself"),
    ],
)
def test_a_task_file_that_cannot_be_used_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write_choices(tmp_path / "t", **changes)
    with pytest.raises(TunesmithError, match=words) as told:
        open_harness(str(path), tmp_path / "w")
    assert str(path) in str(told.value)


def test_a_task_file_runs_no_code_and_may_include_another(
    talker: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_choices(tmp_path / "t")
    other = tmp_path / "t" / "other.yaml"
    other.write_text("include: boats.yaml\ntask: other\ndoc_to_text: 'Tell: {{question}}'\n", "utf-8")
    task = open_harness(str(other), tmp_path / "w")
    assert (task.name, task.rows) == ("other", 14)
    (tmp_path / "t" / "code.py").write_text("raise SystemExit('it ran')\n", "utf-8")
    path.write_text(path.read_text("utf-8") + "process_docs: !function code.docs\n", "utf-8")
    for each in (path, other):
        with pytest.raises(DataError, match=r"runs Python code \(!function\)"):
            open_harness(str(each), tmp_path / "w")
    with pytest.raises(DataError, match="no task file"):
        open_harness(str(tmp_path / "gone.yaml"), tmp_path / "w")
    away = write_choices(tmp_path / "u")
    (tmp_path / "u" / "boats.jsonl").rename(tmp_path / "boats.jsonl")
    monkeypatch.chdir(tmp_path)  # not beside the task file: then in the working directory
    assert open_harness(str(away), tmp_path / "w").rows == 14


def test_the_harnesses_own_tasks_fetch_nothing_unasked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"allenai/ai2_arc \(ARC-Easy\).*harness:hf:arc_easy"):
        open_harness("harness:arc_easy", tmp_path)


def write_cached(cache: Path, place: Path) -> None:
    """Questions of arc_easy as the datasets library keeps them once they were fetched."""
    import datasets

    choices = {"text": ["air", "a stone", "water", "fire"], "label": ["A", "B", "C", "D"]}
    rows = [{"question": question(n), "choices": choices, "answerKey": "ABCD"[n % 4]} for n in range(12)]
    place.mkdir()
    (place / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    files = {part: str(place / "arc.jsonl") for part in ("train", "validation", "test")}
    datasets.load_dataset("json", data_files=files, cache_dir=str(place / "c"))
    (made,) = (place / "c").glob("json/*/*/*/dataset_info.json")
    kept = cache / "allenai___ai2_arc" / "ARC-Easy" / "0.0.0" / "0123456789"
    kept.mkdir(parents=True)
    for file in made.parent.glob("*.arrow"):
        file.rename(kept / file.name.replace("json-", "ai2_arc-"))
    told = json.loads(made.read_text("utf-8")) | {"config_name": "ARC-Easy", "dataset_name": "ai2_arc"}
    (kept / "dataset_info.json").write_text(json.dumps(told), "utf-8")


def test_the_harnesses_own_tasks_are_asked_where_their_data_are_in_the_cache(
    talker: Pretrained, tmp_path: Path
) -> None:
    write_cached(tmp_path / "cache", tmp_path / "made")
    task = open_harness("harness:arc_easy", tmp_path / "w", 10)
    answers = task.answers(talker.model, talker.processor, Device())
    assert answers.shape == (10, 2)
    assert set(np.unique(answers)) <= {0.0, 1.0}
    assert "task arc_easy (version 1.0" in task.definition


def test_a_group_is_refused_with_its_tasks(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"group of 4 tasks.*harness:mmlu_stem"):
        open_harness("harness:mmlu", tmp_path)
    with pytest.raises(RecipeError, match=r"group of 4 tasks.*harness:hf:mmlu_stem"):
        open_harness("harness:hf:mmlu", tmp_path)
    with pytest.raises(RecipeError, match="names no task"):
        open_harness("harness:", tmp_path)
    with pytest.raises(DataError, match="unsafe_code"):
        open_harness("harness:humaneval", tmp_path)


@pytest.mark.slow  # all of the harness's tasks are read
def test_an_unknown_name_and_a_tag_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'no task of that name\. Did you mean "arc_easy"'):
        open_harness("harness:arc_esy", tmp_path)
    with pytest.raises(RecipeError, match=r"group of 2 tasks.*harness:arc_challenge, harness:arc_easy"):
        open_harness("harness:ai2_arc", tmp_path)


def test_a_missing_package_is_told_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(RecipeError, match=r"pip install 'tunesmith\[harness\]'"):
        open_harness("harness:arc_easy", tmp_path)


def test_names_are_those_of_the_tasks() -> None:
    assert named("harness:hf:arc_easy") == named("harness:arc_easy") == "arc_easy"
    assert named("harness:tasks/boats.yaml") == "boats"
