"""Conversations of which one goes on where another ends stay together; others do not, however alike they begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.data.test_chats_load import TOLD

from tunesmith.chats import Chat
from tunesmith.data.chat_cells import ChatCells


def test_rows_for_each_turn_of_a_conversation_stand_in_one_part() -> None:
    def linked(*chats: Sequence[tuple[str, str]]) -> list[int] | None:
        cells = ChatCells()
        for turns in chats:
            chat = Chat(tuple({"role": role, "content": text} for role, text in turns)).to_json()
            cells.check({"chat": chat}, ["chat"], encoding="utf-8", within=None, own_file=False)
        found = cells.links()
        return None if found is None else np.unique(found, return_inverse=True)[1].tolist()

    more = [*TOLD, ("user", "And 2 + 3?"), ("assistant", "5")]
    most = [*more, ("user", "And 2 + 4?"), ("assistant", "6")]
    other = [("user", "Who?"), ("assistant", "I.")]
    one, two, three, four = linked(most, other, TOLD, more)  # type: ignore[misc]
    assert one == three == four != two
    one, two, three = linked(more, other, most)  # type: ignore[misc]
    assert one == three != two
    shown = [[*TOLD, ("user", f"And {n}?"), ("assistant", "5")] for n in range(3)]  # the same example before each
    assert linked(*shown) is None
    assert linked(TOLD, other) is None
