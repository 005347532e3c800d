"""What the person should know about the data, in sentences; the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tunesmith.data.clean import Intake
from tunesmith.data.duplicates import contradicted, repeated, shared
from tunesmith.data.parts import PARTS
from tunesmith.data.split import TEST, TRAIN, UNSPLIT, VALIDATION

RARE_SHARE, RARE_RATIO = 0.02, 20
"""A class below this share, or so many times smaller than the largest, is called rare."""

_ORDER = ("LEAK", "UNFILLED", "MARKS", "CONTRADICTION", "IMBALANCE", "RARE", "EMPTY")


def of_contents(exact: np.ndarray, normal: np.ndarray, labels: np.ndarray, noun: str = "text") -> Iterator[str]:
    """Duplicates and contradictions among all usable rows. noun: what a row holds, a text or a picture."""
    if count := contradicted(normal, labels):
        yield (
            f"CONTRADICTION: {count} {noun}(s) stand with more than one label; no model can learn both. All are kept, "
            f"in one part each."
        )
    same, alike = repeated(exact), repeated(normal)
    if alike:
        yield (
            f"{alike} row(s) repeat an earlier {noun} {_how_alike(same, alike, noun)}; where tunesmith splits, all "
            f"copies go into one part."
        )


def of_leaks(exact: np.ndarray, normal: np.ndarray, parts: np.ndarray, noun: str = "text") -> Iterator[str]:
    """Rows of given validation or test files whose content also trains; `parts` as before the split [rows]."""
    names = {VALIDATION: "validation", TEST: "test", TRAIN: "train"}
    training = np.isin(parts, (TRAIN, UNSPLIT))
    for part, other in ((TEST, TRAIN), (VALIDATION, TRAIN), (TEST, VALIDATION)):
        here, there = parts == part, training if other == TRAIN else parts == other
        alike = shared(normal[here], normal[there])
        if alike:
            same = shared(exact[here], exact[there])
            yield (
                f"LEAK: {alike} of {int(here.sum())} {names[part]} rows have a {noun} that is in {names[other]} too "
                f"{_how_alike(same, alike, noun)}. They are kept as given; scores on them prove nothing."
            )


def of_classes(counts: Mapping[str, Mapping[str, int]], multi_label: bool) -> Iterator[str]:
    """Imbalance, classes with too few rows, parts without rows."""
    train = {name: count for name, count in counts["train"].items() if count}
    total = {name: sum(counts[part][name] for part in PARTS) for name in counts["train"]}
    if train:
        small, large = min(train, key=lambda n: train[n]), max(train, key=lambda n: train[n])
        share, ratio = train[small] / sum(train.values()), train[large] / train[small]
        if (share < RARE_SHARE and len(train) <= 1 / RARE_SHARE) or ratio > RARE_RATIO:
            yield (
                f'IMBALANCE: "{small}" has {train[small]} training rows ({share:.1%}), "{large}" has {train[large]}, '
                f"{ratio:.0f} times as many. Look at macro F1 rather than accuracy; class weights may help."
            )
    if single := [name for name, count in total.items() if count == 1]:
        yield f"RARE: only one row in {_listed(single)}; it goes to train, so nothing can be said about that class."
    if none := [name for name in counts["train"] if not counts["train"][name]]:
        yield f"EMPTY: no training row in {_listed(none)}; the model cannot learn it."
    for part in ("validation", "test"):
        rows = sum(counts[part].values())
        missing = [name for name in train if not counts[part][name] and total[name] > 1]
        if not rows and not multi_label:
            yield f"EMPTY: the {part} part has no row."
        elif missing:
            yield f"EMPTY: the {part} part has no row of {_listed(missing)}."


def of_first_faults(intake: Intake) -> str:
    """A sentence on the rows in quarantine, which may be why a class is missing; empty where there are none."""
    if not intake.first:
        return ""
    bad = sum(count.quarantined for count in intake.counts)
    return f" {bad} row(s) could not be used, the first: {'; '.join(intake.first[:3])}."


def of_intake(intake: Intake) -> Iterator[str]:
    """What was done to rows on the way."""
    if bad := sum(count.quarantined for count in intake.counts):
        first = "; ".join(intake.first[:3])
        yield f"{bad} row(s) could not be used and are in quarantine.jsonl with their reasons, the first: {first}."
    if intake.stripped:
        yield f"{intake.stripped} label(s) had blanks around them, which were taken off."
    if intake.without_group:
        yield f"{intake.without_group} row(s) have no group in their group column; each counts as a group of its own."
    yield from intake.cells.notes()


def worst_first(notes: Sequence[str]) -> tuple[str, ...]:
    """Notes in order of weight, each once."""
    weight = {word: place for place, word in enumerate(_ORDER)}
    return tuple(sorted(dict.fromkeys(notes), key=lambda note: weight.get(note.partition(":")[0], len(_ORDER))))


def _how_alike(same: int, alike: int, noun: str) -> str:
    """In brackets, how copies resemble; pictures are compared pixel by pixel only, chats by what is asked in them."""
    if noun == "question":
        return f"({same} with the same answer too)"
    if noun != "text":
        return "(pixel by pixel)"
    return f"({same} exactly, {alike - same} but for case, outer blanks or Unicode form)"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
