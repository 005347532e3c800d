"""Talking with a run: turns that follow on each other, in a pipe and in a terminal, and a clean end."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.run.test_card import tiny_bert
from tests.run.tiny_speaker import GREETED, REPLY, tuned_run
from typer.testing import CliRunner

from tunesmith.cli import app
from tunesmith.deploy.chat import Conversation
from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.errors import RecipeError

COMMAND = (sys.executable, "-m", "tunesmith", "chat")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory)


@pytest.fixture(scope="session")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder)


def said(folder: Path, text: str, *options: str) -> list[str]:
    found = CliRunner().invoke(app, ["chat", str(folder), *options], input=text, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout.splitlines()


def test_a_line_in_gives_an_answer_out(folder: Path) -> None:
    assert said(folder, "who are you?\n/reset\n\nhello\n") == [REPLY, GREETED]
    assert said(folder, "hello") == [GREETED]
    assert said(folder, "") == []
    assert said(folder, "hello\n/exit\nhello\n") == [GREETED]


def test_json_lines_keep_question_and_answer(folder: Path) -> None:
    found = [json.loads(line) for line in said(folder, "hello\n", "--json")]
    assert found == [{"question": "hello", "answer": GREETED}]


def test_a_later_turn_sees_the_earlier_ones(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    plain = predictor.stream

    def watched(chat: Any, writing: Any) -> Iterator[str]:
        seen.append([m["role"] for m in chat.messages])
        return plain(chat, writing)

    monkeypatch.setattr(predictor, "stream", watched)
    conversation = Conversation(predictor, Writing(most_tokens=8), "be kind")
    first = "".join(conversation.say("hello"))
    list(conversation.say("who are you?"))
    assert seen == [["system", "user"], ["system", "user", "assistant", "user"]]
    assert conversation.turns[1] == {"role": "assistant", "content": first.strip()}
    conversation.reset()
    list(conversation.say("hi"))
    assert seen[-1] == ["system", "user"]
    conversation.instruct("")
    list(conversation.say("hi"))
    assert seen[-1] == ["user"]


def test_an_answer_cut_short_is_part_of_the_conversation(predictor: Predictor) -> None:
    conversation = Conversation(predictor)
    pieces = conversation.say("hello")
    begun = next(pieces) + next(pieces)
    pieces.close()
    assert conversation.turns == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": begun.strip()}]
    unanswered = conversation.say("hi")
    unanswered.close()
    assert len(conversation.turns) == 2


def test_a_long_conversation_forgets_its_oldest_turns_and_says_so(predictor: Predictor) -> None:
    conversation = Conversation(predictor, Writing(most_tokens=20))
    for _ in range(6):
        assert "".join(conversation.say("tell me who you are, " * 2))
    assert conversation.forgotten > 0
    assert len(conversation.turns) + conversation.forgotten == 12
    assert conversation.turns[0]["role"] == "user"


def test_a_model_of_plain_texts_has_no_system(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(predictor.__dict__, "learned_texts", True)
    with pytest.raises(RecipeError, match="plain texts"):
        Conversation(predictor, system="be kind")
    conversation = Conversation(predictor, Writing(most_tokens=3))
    assert "".join(conversation.say("hello")) is not None
    assert conversation.turns == []


@pytest.mark.slow
def test_ctrl_c_ends_a_pipe_without_a_traceback(folder: Path) -> None:
    talk = subprocess.Popen(
        [*COMMAND, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert talk.stdin is not None
    assert talk.stdout is not None
    talk.stdin.write("hello\n")
    talk.stdin.flush()
    assert talk.stdout.readline().strip() == GREETED  # answered while the pipe is open
    talk.send_signal(signal.SIGINT)
    _, faults = talk.communicate(timeout=60)
    assert talk.returncode == 130
    assert "Traceback" not in faults


@pytest.mark.slow
def test_a_terminal_shows_the_answer_as_it_is_written_and_ctrl_c_leaves(folder: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [*COMMAND, str(folder)])
    shown = ""

    def wait_for(words: str) -> None:
        nonlocal shown
        end = time.monotonic() + 120
        while words not in shown and time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096).decode("utf-8", "replace")
        assert words in shown, shown
        shown = shown.partition(words)[2]

    wait_for("you  >")
    os.write(terminal, b"hello\n")
    wait_for(f"model> {GREETED}")
    wait_for("you  >")
    os.write(terminal, b"/dance\n")
    wait_for("/dance is not known")
    wait_for("you  >")
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_run_that_does_not_speak_says_what_to_do(tmp_path: Path) -> None:
    from tests.run.sample import write_run

    folder = write_run(tmp_path / "run")
    tiny_bert(folder / "best")
    (folder / "best" / "adapter_config.json").unlink()
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("  epochs: 3.0\n", ""), encoding="utf-8")
    facts = {"labels": ["negative", "neutral", "positive"], "multi_label": False, "thresholds": None, "temperature": 1}
    (folder / "best" / "tunesmith.json").write_text(json.dumps(facts))
    with pytest.raises(RecipeError, match="does not answer in words"):
        Predictor(folder).speaking()
    found = CliRunner().invoke(app, ["predict", str(folder), "a text", "--temperature", "1"])
    assert isinstance(found.exception, RecipeError)
    assert "--temperature" in str(found.exception)


def test_what_a_model_writes_cannot_command_the_terminal() -> None:
    from tunesmith.terminal import answer_line
    from tunesmith.terminal_text import harmless

    assert harmless("a\x1b[2J\x9b1mb\n\tc\u200d") == "a[2J1mb\n\tc\u200d"
    assert answer_line({"messages": [{"content": "x\x07"}], "answer": "y\x1bz\n!"}) == "yz !\tx"
    rated = {"predicted": "a\x1b]0;b", "probabilities": {"a\x1b]0;b": 0.5}, "text": "c\x1b[2J"}
    assert answer_line(rated) == "a]0;b 50.0%\tc[2J"


def test_an_answer_is_told_without_what_the_template_writes_before_it(folder: Path) -> None:
    """The model says "i am tune."; here a template claims that "i am" is its own."""
    wrapped = Predictor(folder)
    wrapped.processor.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + ('i am ' if m.role == 'assistant' else '')"
        " + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert wrapped.predict_texts(["who are you?"])[0].label == REPLY.removeprefix("i am ")
    assert "".join(Conversation(wrapped).say("who are you?")) == REPLY.removeprefix("i am ")
