"""What a language model is asked of its held-out rows."""

from __future__ import annotations

from tests.chat_examples import settled, talk

from tunesmith.evaluate.asked import first_asked
from tunesmith.types import Example


def test_one_part_of_each_split_chat_is_asked_its_first_or_what_is_left() -> None:
    """The first window of line 2 was dropped: it has nothing to learn."""
    rows = [
        Example({"chat": talk("Hello?", f"Answer {part}.").to_json(), "part": part}, file="chats.jsonl", line=line)
        for line, part in ((1, "1/3"), (1, "2/3"), (2, "2/3"), (2, "3/3"), (1, "3/3"))
    ]
    rows.append(Example({"chat": talk("Hello?", "Whole.").to_json()}, file="chats.jsonl", line=2))
    asked = first_asked(rows, settled("gpt2", "chatml"), rows=9, most_tokens=8)
    assert [(example.line, one.wanted) for example, one in asked] == [
        (1, "Answer 1/3."),
        (2, "Answer 2/3."),
        (2, "Whole."),
    ]
