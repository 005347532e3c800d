"""Small pictures beside the answers, for the report: the surest mistakes, and a sample of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.pictures.decode import PictureFault, read_picture
from tunesmith.pictures.draw import compared, thumbnail
from tunesmith.train.checkpoint import disk_faults

WORST, SAMPLE = 24, 16
SIDE, BOXED_SIDE = 160, 320


def keep_thumbnails(records: Sequence[dict[str, Any]], folder: Path, labels: Sequence[str]) -> None:
    """Write `folder`/pictures/NUMBER.jpg for chosen records and name it in them as `thumbnail`: the picture, or where
    there are boxes two of it, with the true ones and with the found ones. One that can no longer be read goes without.
    """
    chosen = sorted({*_worst(records, labels), *range(0, len(records), 1 + len(records) // SAMPLE)})
    if not chosen:
        return
    with disk_faults(folder):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for number in chosen:
            record = records[number]
            try:
                picture = read_picture(record["image"])
            except PictureFault:
                continue
            if "boxes" in record:
                truth = [(box[:4], box[4]) for box in record["boxes"]]
                answers = [(box[:4], box[4], box[5]) for box in record["predicted"]]
                pair = compared(picture, truth, answers, labels=labels, side=BOXED_SIDE)
                data = thumbnail(pair, 2 * BOXED_SIDE + 8)
            else:
                data = thumbnail(picture, SIDE)
            name = f"pictures/{number}.jpg"
            (folder / name).write_bytes(data)
            record["thumbnail"] = name


def _worst(records: Sequence[dict[str, Any]], labels: Sequence[str]) -> list[int]:
    """Wrong answers, the surest first, as the report orders them."""
    wrong = [n for n, record in enumerate(records) if "label" in record and _differ(record)]
    return sorted(wrong, key=lambda n: -_sureness(records[n], labels))[:WORST]


def _differ(record: Mapping[str, Any]) -> bool:
    said, true = record["predicted"], record["label"]
    return bool(said != true) if isinstance(true, str) else set(said) != set(true)


def _sureness(record: Mapping[str, Any], labels: Sequence[str]) -> float:
    """The largest probability; of several labels the largest distance of one from the truth."""
    chances, true = record["probabilities"], record["label"]
    if isinstance(true, str) or len(chances) != len(labels):
        return float(max(chances, default=0.0))
    return float(max(abs(chance - (label in true)) for chance, label in zip(chances, labels, strict=True)))
