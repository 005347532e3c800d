"""The rule on a line that is written out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.retention.wise_ft import WiseFT

NAN = float("nan")


class Line:
    """Scores at evenly spaced points; keeps what was put."""

    def __init__(self, new: Sequence[float], lost: Mapping[str, Sequence[float]], better: str = "higher") -> None:
        self.new, self.lost, self.better, self.at = new, lost, better, list[float]()

    def put(self, share: float) -> None:
        self.at.append(share)

    @property
    def point(self) -> int:
        return round(self.at[-1] * (len(self.new) - 1))

    def new_score(self) -> float:
        return self.new[self.point]

    def old_forgetting(self) -> dict[str, float]:
        return {name: values[self.point] for name, values in self.lost.items()}


CASES = {
    "the least forgetting that costs no more": ([0.5, 0.89, 0.90, 0.895], {"a": [0, 0.1, 0.2, 0.3]}, "higher", 1),
    "just as much as may be given is allowed": ([0.5, 0.6, 0.89, 0.9], {"a": [0, 0.1, 0.2, 0.3]}, "higher", 2),
    "a hair more is not": ([0.5, 0.6, 0.8899, 0.9], {"a": [0, 0.1, 0.2, 0.3]}, "higher", 3),
    "lower may be better": ([9.0, 2.009, 2.0, 2.3], {"a": [0, 0.1, 0.2, 0.3]}, "lower", 1),
    "the task that loses most decides": ([0.9] * 4, {"a": [0, 0, 0, 0], "b": [0.4, 0.3, 0.1, 0.2]}, "higher", 2),
    "what is gained counts as nothing lost": ([0.89, 0.895, 0.9, 0.9], {"a": [-0.3, 0, -0.1, 0.1]}, "higher", 2),
    "equal ones: the better new score": ([0.895, 0.9, 0.895, 0.9], {"a": [0, 0, 0, 0.1]}, "higher", 1),
    "equal in both: nearer to tuned": ([0.9, 0.9, 0.9, 0.9], {"a": [0, 0, 0, 0.1]}, "higher", 2),
    "no old task: the least change": ([0.5, 0.6, 0.895, 0.9], {}, "higher", 2),
    "a score that is none is passed over": ([NAN, 0.9, NAN, 0.9], {"a": [0, 0.1, 0.0, 0.3]}, "higher", 1),
    "an old score that is none is lost": ([0.9] * 4, {"a": [NAN, 0.2, NAN, 0.3]}, "higher", 1),
    "no score at all: tuned": ([NAN] * 4, {"a": [0.0] * 4}, "higher", 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule_takes(case: str) -> None:
    new, lost, better, wanted = CASES[case]
    line = Line(new, lost, better)
    found = WiseFT(points=4).finish(line)
    assert found["share"] == wanted / 3
    assert line.at == [0.0, 1 / 3, 2 / 3, 1.0, wanted / 3], "every point once, then the chosen one"
    assert [point["share"] for point in found["curve"]] == line.at[:-1]


def test_what_is_returned_stands_in_a_report() -> None:
    new, lost = [0.5, 0.8, 0.9], {"a": [0.0, 0.1, 0.2]}
    found = json.loads(json.dumps(WiseFT(points=3, give=0.2).finish(Line(new, lost))))
    assert found["curve"] == [
        {"share": share, "new_score": score, "forgetting": {"a": gone}}
        for share, score, gone in zip([0, 0.5, 1], new, lost["a"], strict=True)
    ]
    assert found["share"] == 0.5
    assert "0.2" in found["rule"]


@pytest.mark.parametrize("option", [{"points": 1}, {"points": 102}, {"give": -0.1}])
def test_bad_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WiseFT(**option)
