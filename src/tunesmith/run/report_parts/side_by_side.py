"""What the untouched and the tuned model say to the same questions, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.facts import Facts

OPEN, MOST = 6, 40
"""Questions that are shown at once, and behind a fold at most."""
LONGEST, LONGEST_EARLIER = 2_400, 600
"""Characters shown of a text, and of a message before the question."""
SHARES = ("rouge_l",)
"""Scores that may be anything between 0 and 1 for one answer; the others are right or not."""
YES_OR_NO = {"exact_match": "exact", "normalised_match": "the same", "pattern_match": "pattern matches",
             "number_match": "right number"}  # fmt: skip
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def side_by_side(facts: Facts) -> dict[str, Any]:
    """`rows` of questions with both answers, `left` how many more there are, and `ended`: how many answers of each
    model stopped by themselves, of `asked`. Empty where no answer is there."""
    rows = [row for row in _list(facts.generated.get("rows")) if isinstance(row, Mapping) and _said(row, "before")]
    if not rows:
        return {}
    shown = [_row(row) for row in rows[:MOST]]
    finished = all(_said(row, "after") for row in rows)
    return {
        "first": shown[:OPEN],
        "more": shown[OPEN:],
        "left": max(0, len(rows) - MOST),
        "asked": len(rows),
        "most_tokens": facts.generated.get("most_tokens"),
        "ended": {when: sum(bool(_said(row, when).get("ended")) for row in rows)
                  for when in (("before", "after") if finished else ("before",))},
    }  # fmt: skip


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    chat = row.get("chat") if isinstance(row.get("chat"), Mapping) else {}
    assert isinstance(chat, Mapping)
    messages = [m for m in _list(chat.get("messages")) if isinstance(m, Mapping)]
    text = chat.get("text")
    asked = str(text) if text is not None else str((messages[-1] if messages else {}).get("content") or "")
    return {
        "asked": lines(asked),
        "goes_on": text is not None,
        "earlier": [
            {"role": ROLES.get(str(m.get("role")), "?"), "lines": lines(str(m.get("content") or ""), LONGEST_EARLIER)}
            for m in messages[:-1]
        ],
        "answers": [_answer(row, when) for when in ("before", "after")],
        "wanted": lines(str(row.get("wanted", ""))),
        "file": row.get("file", ""),
        "line": row.get("line", ""),
    }


def _answer(row: Mapping[str, Any], when: str) -> dict[str, Any]:
    said = _said(row, when)
    scores = row.get("scores") if isinstance(row.get("scores"), Mapping) else {}
    assert isinstance(scores, Mapping)
    held = scores.get(when) or {}
    return {
        "when": when,
        "there": bool(said),
        "lines": lines(str(said.get("text", ""))),
        "ended": bool(said.get("ended")),
        "unread": said.get("unread") or 0,
        "scores": [
            (
                words.name(str(name)) if str(name) in SHARES else YES_OR_NO.get(str(name), str(name)),
                told(str(name), value),
            )
            for name, value in held.items()
            if isinstance(value, int | float)
        ],
    }


def told(name: str, value: float) -> str:
    """One answer's score: a number, or yes or no."""
    return words.score(value) if name in SHARES else "yes" if value else "no"


def lines(text: str, limit: int = LONGEST) -> list[str]:
    """A text line by line, so that its breaks can be kept on the page; cut after `limit` characters, and then with a
    last line that says how many are left. Runs of blank lines are one."""
    cut = text.strip()
    left = len(cut) - limit
    found: list[str] = []
    for line in cut[:limit].expandtabs(4).splitlines():
        if line.strip() or (found and found[-1]):
            found.append(line.rstrip())
    return [*found, f"… ({left:,} more characters)"] if left > 0 else found


def _said(row: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    found = row.get(when)
    return found if isinstance(found, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
