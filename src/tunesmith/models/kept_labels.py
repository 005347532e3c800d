"""The classes that a pretrained head knows, to be kept beside those of the data: old labels first, then the new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import ModelError
from tunesmith.models.label_rows import NO_NAME
from tunesmith.models.vet import read_config, reading
from tunesmith.types import ModelSource

_NO_CLASS = ("", "N/A", "__background__")


def kept_labels(
    source: ModelSource, labels: Sequence[str], *, kind: Literal["texts", "images", "boxes"]
) -> tuple[str, ...]:
    """The labels of the head that `source` brings, in their order, then those of `labels` that it lacks.

    kind: the task's. Where a picture's label goes by another name in the data ("ant" for "ant, emmet, pismire"), the
    data's name stands in the old one's place. ModelError where the model brings no head with named classes.
    """
    if kind == "images":
        old = _of_pictures(source, labels)
    else:
        old = _of_texts(source) if kind == "texts" else detector_labels(source)
    if not old:
        raise ModelError(
            f"model.keep_labels: true, but {source.name} brings no head with named classes for this task, so there is "
            "nothing to keep. Leave it out, or start from a run (model: runs/NAME) or from a model that was fine-tuned "
            "for classes."
        )
    return (*old, *(label for label in labels if label not in old))


def _of_texts(source: ModelSource) -> tuple[str, ...]:
    """By config.json, where the weights hold a matrix with as many rows."""
    from tunesmith.models.weights_file import read_weights

    folder = Path(source.path)
    names = _named(read_config(folder), "ForSequenceClassification")
    held = {entry.shape[0] for entry in read_weights(folder).values() if len(entry.shape) == 2} if names else set()
    return names if len(names) in held and len(set(names)) == len(names) else ()


def _of_pictures(source: ModelSource, labels: Sequence[str]) -> tuple[str, ...]:
    """By what the library's reading finds; each row by one name that no other row bears."""
    from tunesmith.models.vision import known_names
    from tunesmith.models.vision_heads import WORDNET, kept_rows

    known = known_names(source, labels)
    count = Counter(name.casefold() for names in known for name in {n.casefold() for n in names})
    old = []
    for names in known:
        words = [n for n in names if not WORDNET.fullmatch(n)]
        old.append(next((n for n in words if count[n.casefold()] == 1), names[0] if names else ""))
    for place, row in kept_rows(known, labels).items():
        old[row] = labels[place]
    return tuple(old) if all(old) and len(set(old)) == len(old) else ()


def detector_labels(source: ModelSource) -> tuple[str, ...]:
    """The classes of a detector that comes whole, by its configuration; one over a classifier's network has none."""
    from tunesmith.models.vision_source import DRAWN

    folder = Path(source.path) if source.path else None
    if source.weights == DRAWN:
        return ()
    if source.library == "transformers":
        return tuple(n for n in _named(read_config(Path(source.path)), "ForObjectDetection") if n not in _NO_CLASS)
    if source.library != "torchvision":
        return ()
    if folder is not None and folder.is_dir():
        from tunesmith.models.detectors.spec import from_config

        with reading(folder, "torchvision"):
            return from_config(read_config(folder)).labels
    from tunesmith.models.detectors.spec import NAMED

    if source.architecture not in NAMED:
        return ()
    from torchvision.models import get_model_weights

    entry: Any = get_model_weights(source.architecture)
    return tuple(n for n in dict.fromkeys(entry.DEFAULT.meta["categories"]) if n not in _NO_CLASS)


def _named(config: dict[str, Any], ending: str) -> tuple[str, ...]:
    """Names of the classes in a transformers config whose model has a head of that kind; none for placeholders."""
    told = config.get("id2label") or {}
    if not any(str(name).endswith(ending) for name in config.get("architectures") or ()) or not isinstance(told, dict):
        return ()
    if not all(str(number).isdecimal() for number in told):
        return ()  # transformers refuses it
    names = tuple(str(name) for _, name in sorted(told.items(), key=lambda item: int(item[0])))
    return () if any(NO_NAME.fullmatch(name) for name in names) else names
