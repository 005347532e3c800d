"""A finished run of a language model answers in words: in Python, on the command line, from files and pipes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.run.tiny_speaker import GREETED, REPLY, fit_speaker, tuned_run, write_questions
from typer.testing import CliRunner

from tunesmith.chats import Chat
from tunesmith.cli import app
from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.deploy.run import Run
from tunesmith.errors import DataError, RecipeError
from tunesmith.run.folder import open_run
from tunesmith.terminal import evaluation_lines


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory)


def run_of(folder: Path) -> Run:
    found = open_run(folder)
    return Run(found.folder, found.scores, found.recipe)


def invoke(*words: str, given: str | None = None) -> Any:
    found = CliRunner().invoke(app, list(words), input=given, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


def lines(*words: str, given: str | None = None) -> list[str]:
    return [line for line in invoke(*words, given=given).stdout.splitlines() if line]


def test_a_run_answers_questions_in_python(folder: Path) -> None:
    run = run_of(folder)
    assert run.answer(["who are you?", "hello"]) == [REPLY, GREETED]
    assert [each.label for each in run.predict(["hi", "your name please"])] == [GREETED, REPLY]
    assert run.answer(["hello"], most_tokens=5) == [GREETED[:5]]
    assert run.answer([]) == []


def test_drawn_answers_follow_from_their_seed(folder: Path) -> None:
    run = run_of(folder)
    drawn = [run.answer(["zzzzz"], temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_predict_answers_words_files_and_pipes_alike(folder: Path, tmp_path: Path) -> None:
    one = lines("predict", str(folder), "who are you?", "hello")
    assert one == [f"{REPLY}\twho are you?", f"{GREETED}\thello"]
    assert lines("predict", str(folder), given="who are you?\nhello\n") == one
    asked = tmp_path / "questions.jsonl"
    rows = [{"messages": [{"role": "user", "content": q}]} for q in ("who are you?", "hello")]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert lines("predict", str(folder), "--file", str(asked)) == one


def test_json_holds_the_conversation_the_answer_and_what_was_wanted(folder: Path, tmp_path: Path) -> None:
    asked = tmp_path / "questions.jsonl"
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello friend"}]
    asked.write_text(json.dumps({"messages": chat}) + "\n" + json.dumps({"messages": chat[:1]}) + "\n")
    found = [json.loads(line) for line in lines("predict", str(folder), "--file", str(asked), "--json")]
    assert [row["answer"] for row in found] == [GREETED, GREETED]
    assert [row.get("wanted") for row in found] == ["hello friend", None]
    assert all(row["messages"] == chat[:1] and row["ended"] for row in found)
    cut = json.loads(lines("predict", str(folder), "hello", "--json", "--most-tokens", "3")[0])
    assert (cut["answer"], cut["ended"]) == (GREETED[:3], False)


def test_a_conversation_that_the_template_refuses_is_named_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.deploy.answers import answers
    from tunesmith.types import Example

    predictor = Predictor(folder)
    predictor.processor.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        + predictor.processor.chat_template
    )
    bad = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "hello"}]}
    found = list(answers(predictor, [predictor.asked("hello"), Example({"chat": json.dumps(bad)})]))
    assert found[0]["answer"] == GREETED
    assert found[1]["answer"] is None
    assert "no system here" in found[1]["fault"]


def test_a_stream_is_the_answer_piece_by_piece(folder: Path) -> None:
    predictor = Predictor(folder)
    pieces = list(predictor.stream(predictor.chat_of("hello"), Writing()))
    assert "".join(pieces) == GREETED
    assert len(pieces) > 5


def test_new_labelled_chats_are_scored_as_in_the_report(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "new.jsonl"
    data.write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n"
            for q, a in (("who are you?", REPLY), ("hello", GREETED), ("hi", "no greeting at all"))
        )
    )
    found = evaluate_run(folder, str(data), tmp_path / "work")
    assert found.examples == 3
    assert found.main_score == "loss"
    assert found.scores["loss"] > open_run(folder).scores["after"]["loss"]
    assert set(found.scores) == {"loss", "perplexity", "token_accuracy"}
    assert found.interval[0] <= found.scores["loss"] <= found.interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "prefix_tuning", "prompt_tuning", "llama_adapter"])
def test_what_is_delivered_answers_as_the_run_did(tmp_path: Path, method: str) -> None:
    folder = fit_speaker(tmp_path, tmp_path / "run", f"method={method}", "train.steps=6", "train.learning_rate=1e-1")
    rows = json.loads((folder / "predictions" / "answers.json").read_text(encoding="utf-8"))["rows"]
    predictor = Predictor(folder)
    chats = [Chat.from_json(json.dumps(row["chat"])) for row in rows]
    found = predictor.write(chats, Writing(most_tokens=24))
    assert [each.text for each in found] == [row["after"]["text"] for row in rows]
    assert any(row["after"]["text"] != row["before"]["text"] for row in rows)


def changed_task(folder: Path, place: Path, **task: Any) -> Path:
    """A copy of the run whose recipe says something else of its task."""
    shutil.copytree(folder, place)
    settings = yaml.safe_load((place / "recipe.yaml").read_text(encoding="utf-8"))
    settings["task"] |= task
    (place / "recipe.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return place


def test_what_a_fit_leaves_out_or_splits_is_left_out_or_split_here(folder: Path, tmp_path: Path) -> None:
    place = changed_task(folder, tmp_path / "run", max_length=64, overlong="drop")
    asked = {"role": "user", "content": "hello"}
    rows = [[asked, {"role": "assistant", "content": GREETED * count}] for count in (1, 1, 20)]
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    found = evaluate_run(place, str(chats), tmp_path / "work")
    assert found.examples == 2
    assert list(found.refused.values()) == [1]
    assert "more than task.max_length=64" in next(iter(found.refused))
    assert any("1 rows were left out" in line for line in evaluation_lines(found))
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "ab" * 300}) + "\n", encoding="utf-8")
    again = changed_task(folder, tmp_path / "again", max_length=64)
    assert evaluate_run(again, str(texts), tmp_path / "work-2").examples == 10  # 600 bytes and the end of the text


def test_settings_say_how_new_data_are_read_or_are_refused(folder: Path, tmp_path: Path) -> None:
    data = str(write_questions(tmp_path / "new.jsonl"))
    assert evaluate_run(folder, data, tmp_path / "work", ["data.limit=7"]).examples == 7
    for unread in ("train.seed=3", "data.test=other.jsonl", "data.split.test=0.5", "task.max_length=8"):
        with pytest.raises(RecipeError, match="can only say how"):
            evaluate_run(folder, data, tmp_path / "work", [unread])


def test_an_empty_text_is_no_prompt_and_options_without_drawing_are_refused(folder: Path) -> None:
    predictor = Predictor(folder)
    with pytest.raises(DataError, match="empty"):
        predictor.write([Chat(text="")])
    found = CliRunner().invoke(app, ["predict", str(folder), "hello", "--top-p", "0.5"])
    assert isinstance(found.exception, RecipeError)
    assert "--temperature" in str(found.exception)
