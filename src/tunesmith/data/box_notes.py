"""What the person should know about pictures with boxes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tunesmith.data.box_intake import BoxIntake, Columns
from tunesmith.data.boxes import BoxCount
from tunesmith.data.duplicates import contradicted, repeated, shared
from tunesmith.data.notes import RARE_RATIO
from tunesmith.data.split import TEST, TRAIN, UNSPLIT, VALIDATION


def of_pictures(columns: Columns) -> Iterator[str]:
    """Pictures that stand several times, and whether with other boxes."""
    if count := contradicted(columns.keys, columns.boxes_key):
        yield f"CONTRADICTION: {count} picture(s) stand several times with different boxes. All are kept, in one part."
    if alike := repeated(columns.keys):
        yield f"{alike} picture(s) repeat an earlier one, pixel by pixel; where tunesmith splits, copies stay together."


def of_leaks(keys: np.ndarray, parts: np.ndarray) -> Iterator[str]:
    """Pictures of given validation or test parts that also train; `parts` as before the split [pictures]."""
    names = {VALIDATION: "validation", TEST: "test", TRAIN: "train"}
    training = np.isin(parts, (TRAIN, UNSPLIT))
    for part, other in ((TEST, TRAIN), (VALIDATION, TRAIN), (TEST, VALIDATION)):
        here, there = parts == part, training if other == TRAIN else parts == other
        if alike := shared(keys[here], keys[there]):
            yield (
                f"LEAK: {alike} of {int(here.sum())} {names[part]} pictures are in {names[other]} too, pixel by pixel. "
                f"They are kept as given; scores on them prove nothing."
            )


def of_classes(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Imbalance, and classes without boxes."""
    train = {name: count for name, count in counts["train"].items() if count}
    if len(train) > 1:
        small, large = min(train, key=lambda n: train[n]), max(train, key=lambda n: train[n])
        if train[large] > RARE_RATIO * train[small]:
            times = train[large] / train[small]
            yield f'IMBALANCE: "{small}" has {train[small]} training boxes, "{large}" {times:.0f} times as many.'
    if none := [name for name, count in counts["train"].items() if not count]:
        yield f"EMPTY: no training box of {_listed(none)}; the model cannot learn it."
    for part in ("validation", "test"):
        missing = [name for name in train if not counts[part][name]]
        if len(missing) == len(train):
            yield f"EMPTY: the {part} part has no box."
        elif missing:
            yield f"EMPTY: the {part} part has no box of {_listed(missing)}."


def of_intake(intake: BoxIntake, background: int) -> Iterator[str]:
    """What became of boxes and pictures. background: used pictures without a box that counts."""
    total = BoxCount(*(sum(getattr(one, name) for one in intake.boxes) for name in BoxCount.__slots__))
    yield (
        f"Boxes: {total.read} read = {total.used} used ({total.clipped} of them clipped to their picture) + "
        f"{total.quarantined} quarantined + {total.with_picture} with a quarantined picture."
    )
    if bad := sum(count.quarantined for count in intake.counts):
        first = "; ".join(intake.first_pictures[:3])
        yield f"{bad} picture(s) could not be used and are in quarantine.jsonl with their reasons, the first: {first}."
    if total.quarantined:
        first = "; ".join(intake.first_boxes[:3])
        yield (
            f"{total.quarantined} box(es) could not be used and are in quarantine.jsonl, the first: {first}. Their "
            f"pictures are used without them."
        )
    if total.crowd:
        yield f"{total.crowd} box(es) are marked crowd or difficult: neither learned nor counted against the model."
    if background:
        yield f"{background} picture(s) have no box: they teach what is background."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
