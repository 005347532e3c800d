"""Every broken or hostile file of chats behaves as the law says, and every real one loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.conftest import SHARED, chats_of, in_order, quarantined
from typer.testing import CliRunner

from tunesmith.cli import app
from tunesmith.errors import DataError
from tunesmith.types import Dataset

BROKEN, REAL = SHARED / "broken/instruct", SHARED / "instruct"

# file -> kind, used, and of each bad row: number, a word of its reason
FILES: dict[str, tuple[str, int, list[tuple[int, str]]]] = {
    "alpaca_bad.json": ("chats", 2, [
        (2, 'no value for "output"'), (3, '"output" is empty'), (4, '"instruction" is empty'),
        (5, '"instruction" is a list'), (6, '"output" is a number'), (7, '"output" is empty')]),
    "chat_bad.jsonl": ("chats", 2, [
        (2, "the assistant speaks first"), (3, "no answer to learn"), (4, "message 2 is from the user again"),
        (5, 'the role "alien"'), (6, "holds no message"), (7, 'no value for "messages"'), (9, '"messages" is text')]),
    "pref_bad.jsonl": ("preferences", 1, [
        (2, "are the same"), (3, 'no value for "rejected"'), (4, '"prompt" is empty')]),
}  # fmt: skip

# file or folder -> kind, rows, form
LOADS: dict[str, tuple[str, int, str]] = {
    "llamafactory_demo/identity.json": ("chats", 91, "Alpaca"),
    "llamafactory_demo/glaive_toolcall_en_demo.json": ("chats", 300, "ShareGPT"),
    "llamafactory_demo/dpo_en_demo.json": ("preferences", 299, "chosen and rejected"),
    "llamafactory_demo/kto_en_demo.json": ("preferences", 300, "liked or not"),
    "gsm8k_small": ("chats", 1000, "question and answer"),
    "dolly_150": ("chats", 151, "Dolly"),
    "self_instruct_seed": ("chats", 854, "Alpaca"),
    "self_instruct_seed/seed_tasks.jsonl": ("chats", 175, "Self-Instruct"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_loads_with_every_row_accounted_for(
    name: str, shared: Path, heard: Callable[..., Dataset], tmp_path: Path
) -> None:
    kind, used, bad = FILES[name]
    summary = heard(BROKEN / name, kind=kind, max_bad_share=0.9).summary
    assert (summary.used, summary.quarantined, summary.blank) == (used, len(bad), 0)
    entries = quarantined(tmp_path / "run")
    for (row, why), entry in zip(bad, entries, strict=True):
        assert why in entry["reason"]
        assert row == entry["line"] or f"(row {row})" in entry["reason"]
        assert entry["raw"]


@pytest.mark.parametrize("name", FILES)
def test_more_than_the_allowed_share_stops_with_the_first_faults_and_exit_code_2(
    name: str, shared: Path, heard: Callable[..., Dataset]
) -> None:
    kind, _, bad = FILES[name]
    with pytest.raises(DataError) as error:
        heard(BROKEN / name, kind=kind)
    assert error.value.exit_code == 2
    assert "data.max_bad_share=" in str(error.value)
    assert bad[0][1] in str(error.value)


def test_every_broken_file_is_in_the_table(shared: Path) -> None:
    assert {path.name for path in BROKEN.iterdir()} == FILES.keys()


def test_a_very_long_instruction_is_usable(shared: Path, heard: Callable[..., Dataset]) -> None:
    chats = chats_of(heard(BROKEN / "alpaca_bad.json", max_bad_share=0.9))
    assert max(len(chat.messages[0]["content"]) for chat in chats) == 50_000


def test_marks_inside_a_text_are_told_with_their_line(shared: Path, heard: Callable[..., Dataset]) -> None:
    notes = heard(BROKEN / "chat_bad.jsonl", max_bad_share=0.9).summary.notes
    assert any(note.startswith("MARKS") and "chat_bad.jsonl:8" in note for note in notes)


@pytest.mark.parametrize("name", LOADS)
def test_real_data_load_without_a_bad_row(name: str, shared: Path, heard: Callable[..., Dataset]) -> None:
    kind, rows, form = LOADS[name]
    summary = heard(REAL / name, kind=kind).summary
    assert (summary.read, summary.used) == (rows, rows)
    assert summary.files[0]["form"] == form


def test_the_names_that_wait_in_the_identity_set_can_be_filled_in(shared: Path, heard: Callable[..., Dataset]) -> None:
    path = REAL / "llamafactory_demo/identity.json"
    assert any("{{name}} (77 rows), {{author}} (60 rows)" in note for note in heard(path).summary.notes)
    dataset = heard(path, fill={"name": "Ada", "author": "us"})
    assert not any("UNFILLED" in note for note in dataset.summary.notes)
    assert not any("{{" in example.inputs["chat"] for example in in_order(dataset))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("llamafactory_demo/glaive_toolcall_en_demo.json",
         ["Forms: ShareGPT", "assistant 957, user 746, tool 211", "191 chats offer tools", "Answers a chat: least 1"]),
        ("gsm8k_small", ["Parts: train 720, validation 80, test 200", "Forms: question and answer (2)"]),
    ],
)  # fmt: skip
def test_inspect_shows_forms_roles_turns_and_lengths(name: str, words: list[str], shared: Path) -> None:
    found = CliRunner().invoke(app, ["inspect", str(REAL / name), "--task", "causal_lm"])
    assert found.exit_code == 0, found.output
    for word in (*words, "Characters an answer", "Duplicates"):
        assert word in found.output
