"""A finished run as a comparison sees it: its score, and that score on resamples of the test examples.

Every run of a study is scored on the same resamples, so the spread of a difference between two of them is that on the
same examples, whatever the score is: what makes an example hard for both cancels out (the paired bootstrap, Efron and
Tibshirani 1993, chapter 8). Accuracy, micro F1, AP and a loss can be resampled from
`predictions/test_after.jsonl`; of any other score only the interval that the run itself took is known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import RunError
from tunesmith.metrics.boxes import MOST, Matches

RESAMPLES = 2000
AP_RESAMPLES = 200
DRAWS = 20_000_000
"""Most numbers that are drawn for a study: with very many test examples there are fewer resamples, at least 200."""
_SAME = 1e-6
_SAME_OF = {"ap": 5e-3, "loss": 1e-5}  # boxes are written with two decimals, losses summed in single precision

Score = Callable[[np.ndarray], np.ndarray]
"""How often each example counts [resamples, examples] -> the score [resamples]."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One finished run. value: its main score. right: whether each test example was answered rightly [examples], where
    the score is the share of those. draws: the score on each resample, the same resamples for every run with the same
    `examples`, NaN where one has no score; None where it cannot be resampled. key: which examples these are, by place,
    text and label."""

    folder: Path
    seed: int
    value: float
    scores: Mapping[str, Any]
    manifest: Mapping[str, Any]
    examples: int = 0
    key: str = ""
    right: np.ndarray | None = None
    draws: np.ndarray | None = None


def judge(folders: Sequence[tuple[Path, int]]) -> list[Judged]:
    """The finished runs in these folders, each with its seed. Scores are resampled together, each resample drawn once.

    KeyError or ValueError where a folder's files are not those of a finished run.
    """
    read = [_read(folder) for folder, _ in folders]
    draws: dict[int, np.ndarray] = {}
    for count in sorted({len(rows) for _, _, rows, score in read if score is not None and rows}):
        same = [n for n, (_, _, rows, score) in enumerate(read) if score is not None and len(rows) == count]
        taken = [_main(read[n][0]) for n in same]
        resamples = AP_RESAMPLES if "ap" in taken else max(200, min(RESAMPLES, DRAWS // count))
        pieces = [[read[n][3](times) for n in same] for times in resamples_of(count, resamples)]  # type: ignore[misc]
        draws |= {n: np.concatenate([piece[place] for piece in pieces]) for place, n in enumerate(same)}
    found = []
    for number, ((folder, seed), (scores, manifest, rows, _)) in enumerate(zip(folders, read, strict=True)):
        right = np.array([_is_right(row) for row in rows]) if _main(scores) == "accuracy" and number in draws else None
        value = float(scores["after"][_main(scores)])
        found.append(
            Judged(folder, seed, value, scores, manifest, len(rows), _key(rows), right, draws.get(number))
        )  # fmt: skip
    return found


def resamples_of(examples: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each example is drawn [some resamples, examples], from a counter-based generator: the same always."""
    generator = np.random.Generator(np.random.Philox(0))
    piece = max(1, 4_000_000 // examples)
    for start in range(0, resamples, piece):
        size = min(piece, resamples - start)
        rows = generator.integers(0, examples, size=(size, examples)) + examples * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * examples).reshape(size, examples)


def scores_of(folder: Path) -> dict[str, Any]:
    """scores.json of a finished run; RunError where nothing was held out, so that there is nothing to judge by."""
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    if "after" not in scores:
        raise RunError(
            f"{folder} has no held-out examples, so runs of this recipe cannot be compared: "
            "give data.split.test (or data.split.validation) a share, or name a data.test."
        )
    return scores


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], Score | None]:
    scores = scores_of(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    file = folder / "predictions" / "test_after.jsonl"
    rows = []
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    score = _score(_main(scores), rows, [str(label) for label in manifest.get("labels", ())])
    if score is not None:
        # Taken anew from what is written, it must be what the run said: else these are not the answers to judge by.
        again = float(score(np.ones((1, len(rows)), np.int64))[0])
        room = _SAME_OF.get(_main(scores), _SAME)
        score = score if abs(again - float(scores["after"][_main(scores)])) <= room else None
    return scores, manifest, rows, score


def _main(scores: Mapping[str, Any]) -> str:
    return str(scores["main_score"]["name"])


def _is_right(row: Mapping[str, Any]) -> bool:
    return bool(row["label"] == row["predicted"])


def _score(name: str, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Score | None:
    try:
        if name == "accuracy" and rows:
            right = np.array([_is_right(row) for row in rows], np.float64)
            return lambda times: (times @ right) / times.sum(axis=1)
        if name == "micro_f1" and rows:
            sides = [(set(row["label"]), set(row["predicted"])) for row in rows]
            counts = np.array([[len(a & b), len(a) + len(b)] for a, b in sides], np.float64)
            return lambda times: _f1(times @ counts)
        if name == "loss" and rows:
            # A language model's loss is a mean over tokens, that of preferences one over examples.
            tokens = np.array([row.get("tokens", 1) for row in rows], np.float64)
            losses = np.array([row["loss"] for row in rows], np.float64) * tokens
            return lambda times: (times @ losses) / (times @ tokens)
        if name == "ap" and rows:
            matches = Matches(_boxes(rows, "predicted", labels), _boxes(rows, "boxes", labels), labels)
            return lambda times: np.array([_known(matches.ap(each)) for each in times])
    except (KeyError, TypeError, ValueError):
        return None
    return None


def _known(ap: float) -> float:
    """NaN for the -1 that says that not one true box was drawn."""
    return ap if ap >= 0 else math.nan


def _f1(sums: np.ndarray) -> np.ndarray:
    """2 tp / (2 tp + fp + fn) from [.., (tp, all named and all true)]; 0 where nothing is named and nothing true."""
    found, total = sums[:, 0], sums[:, 1]
    return np.asarray(np.divide(2.0 * found, total, out=np.zeros_like(found), where=total > 0))


def _boxes(rows: Sequence[Mapping[str, Any]], key: str, labels: Sequence[str]) -> np.ndarray:
    """Padded arrays as metrics/boxes.py wants them. Both kinds are written as x1, y1, x2, y2, class, and a number:
    of truth whether it is a crowd, of an answer its score."""
    index = {label: number for number, label in enumerate(labels)}
    most = max([1, *(len(row[key]) for row in rows)])
    most = min(most, MOST * max(1, len(labels)))
    table = np.zeros((len(rows), most, 6), np.float32)
    table[:, :, 4] = -1
    for place, row in zip(table, rows, strict=True):
        for number, (x1, y1, x2, y2, name, last) in enumerate(row[key][:most]):
            kind = index[name]
            place[number] = (x1, y1, x2, y2, kind, last) if key == "boxes" else (x1, y1, x2, y2, last, kind)
    return table


def _key(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which examples these are; empty where none are written down."""
    if not rows:
        return ""
    answer = ("predicted", "probabilities", "thumbnail", "loss", "right", "chosen_logp", "rejected_logp",
              "chosen_reward", "rejected_reward")  # fmt: skip
    kept = [{key: value for key, value in row.items() if key not in answer} for row in rows]
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
