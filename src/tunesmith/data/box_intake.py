"""Pictures with boxes to examples on disk, or to quarantine with a reason; nothing in between, and nothing lost.

Two laws, checked whenever a table ends. Pictures: read = used + quarantined (none is blank: without a box it is a
background picture). Boxes: read = used + quarantined + with_picture, where clipped boxes are among the used ones and
with_picture are those of quarantined pictures. Every clipped and every quarantined box stands in quarantine.jsonl.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from tunesmith.data.box_readers.base import Annotated, BoxTable, RawBox
from tunesmith.data.boxes import BoxCount, as_json, settle, wrong_size
from tunesmith.data.duplicates import as_numbers, key_of
from tunesmith.data.encoding import printable, wrong_bytes
from tunesmith.data.images import Pictures
from tunesmith.data.quarantine import QUARANTINE, SHOWN, Count, Quarantine
from tunesmith.data.store import FACTS, Kept, Writer
from tunesmith.errors import DataError
from tunesmith.pulse import pulse

ROWS = "rows.arrow"
INPUTS = ("image", "boxes")


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of every used picture. classes: the names that the codes in `box_class` mean.

    keys, boxes_key: of the picture's content and of its boxes [pictures]; box_picture, box_class: the number of the
    picture and the code of the class of every used box that is no crowd [boxes].
    """

    keys: np.ndarray
    boxes_key: np.ndarray
    box_picture: np.ndarray
    box_class: np.ndarray
    classes: tuple[str, ...]


class BoxIntake:
    """Takes tables in, picture by picture. In memory stay 16 bytes a picture and 8 bytes a box."""

    def __init__(self, folder: Path, allowed: Sequence[str] | None) -> None:
        self._quarantine = Quarantine(folder)
        self._pictures = Pictures(folder)
        self.path = folder / ROWS
        self._writer = Writer(self.path, INPUTS, FACTS)
        self._allowed = allowed
        self._codes: dict[str, int] = {}
        self._keys, self._boxes_key = bytearray(), bytearray()
        self._box_picture, self._box_class = array("i"), array("i")
        self._rows = 0
        self.counts: list[Count] = []
        self.boxes: list[BoxCount] = []
        self.first_boxes: list[str] = []
        self.first_pictures: list[str] = []

    def take(self, table: BoxTable, part: str | None) -> None:
        """Every picture of one table, then the boxes that belong to none."""
        count, boxes = Count(table.file, part), BoxCount()
        self.counts.append(count)
        self.boxes.append(boxes)
        start = self._rows
        for number, one in enumerate(table.pictures):
            pulse(number)
            count.read += 1
            boxes.read += len(one.boxes)
            reason = self._use(one, table.file, boxes)
            if reason:
                count.quarantined += 1
                boxes.with_picture += len(one.boxes)
                self._refuse(one.file or table.file, one.line, reason, one.raw, self.first_pictures)
            else:
                count.used += 1
        for stray in table.strays:
            boxes.read += 1
            boxes.quarantined += 1
            self._note(stray, stray.reason, table.file, stray.line, self.first_boxes)
        count.rows = range(start, self._rows)
        count.check()
        boxes.check()

    def _use(self, one: Annotated, file: str, boxes: BoxCount) -> str:
        """Store a good picture with its good boxes, or say what is wrong with it."""
        if one.reason:
            return one.reason
        kept = self._kept(one, file)
        if isinstance(kept, str):
            return kept
        _, width, height = kept.facts
        if reason := wrong_size(one.size, width, height):
            return reason
        done = settle(one.boxes, width, height, self._allowed)
        place = one.file or file
        for raw, why in done.refused:
            self._note(raw, why, place, one.line, self.first_boxes)
        for raw, why in done.clipped:
            self._note(raw, why, place, one.line, None)
        boxes.quarantined += len(done.refused)
        boxes.clipped += len(done.clipped)
        boxes.used += len(done.boxes)
        boxes.crowd += sum(box.crowd for box in done.boxes)
        for box in done.boxes:
            if not box.crowd:
                code = self._codes.setdefault(box.name, len(self._codes))
                self._box_picture.append(self._rows)
                self._box_class.append(code)
        text = as_json(done.boxes)
        self._writer.add((kept.inputs[0], text), -1, printable(place), one.line, kept.facts)
        self._keys += kept.exact
        self._boxes_key += key_of((text,))
        self._rows += 1
        return ""

    def _kept(self, one: Annotated, file: str) -> Kept | str:
        """The picture's place, key and size; the place was settled by the reader."""
        if isinstance(one.picture, Path):
            if wrong_bytes(str(one.picture)):
                return "its path is not valid UTF-8: rename it"
            within, cell = one.picture.parent, str(one.picture)
            return self._pictures.check({"image": cell}, ("image",), encoding="", within=within, own_file=False)
        return self._pictures.check({"image": one.picture}, ("image",), encoding="", within=None, own_file=True)

    def _note(self, raw: RawBox, reason: str, file: str, line: int, first: list[str] | None) -> None:
        self._refuse(raw.file or file, raw.line or line, f"{raw.id}: {reason}", raw.raw, first)

    def _refuse(self, file: str, line: int, reason: str, raw: object, first: list[str] | None) -> None:
        self._quarantine.add(file, line, reason, raw)
        if first is not None and len(first) < SHOWN:
            first.append(printable(f"{file}:{line}: {reason}"))

    def columns(self) -> Columns:
        """What is known of the used pictures."""
        box_picture, box_class = (np.array(one, dtype=np.int64) for one in (self._box_picture, self._box_class))
        keys, boxes_key = as_numbers(self._keys), as_numbers(self._boxes_key)
        return Columns(keys, boxes_key, box_picture, box_class, tuple(self._codes))

    def check(self, allowed: float) -> None:
        """DataError where more than this share of pictures, or of boxes, or all pictures are unusable."""
        files = ", ".join(dict.fromkeys(count.file for count in self.counts))
        used, bad = sum(c.used for c in self.counts), sum(c.quarantined for c in self.counts)
        if not used and not bad:
            raise DataError(f"{files}: there is no picture in it.")
        _check("pictures", bad, used, self.first_pictures, allowed, files)
        used, bad = sum(c.used for c in self.boxes), sum(c.quarantined for c in self.boxes)
        _check("boxes", bad, used, self.first_boxes, allowed, files)

    def __enter__(self) -> BoxIntake:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the files."""
        self._writer.__exit__(kind, error, at)
        self._pictures.close(keep=kind is None)
        self._quarantine.close()


def _check(what: str, bad: int, used: int, first: list[str], allowed: float, files: str) -> None:
    share = bad / (bad + used) if bad else 0.0
    if not bad or (used and share <= allowed):
        return
    more = f"\n  and {bad - len(first)} more" if bad > len(first) else ""
    enough = math.ceil(share * 1000) / 1000
    way_out = f", or allow them with data.max_bad_share={enough:g}" if used else ""
    raise DataError(
        f"{files}: {bad} of {bad + used} {what} cannot be used ({share:.1%}; at most {allowed:.2%} may be):\n  "
        + "\n  ".join(first)
        + f"{more}\nMend them{way_out}. All of them are in {QUARANTINE}."
    )
