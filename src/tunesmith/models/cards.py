"""What is known of a pretrained model before its weights are loaded: size, licence, languages, what it can be used for.

Read from config.json, the headers of the weights, and the model card (README.md). All of it is a stranger's: no YAML
is run, no pickle opened but for the shapes of a weight file that is known by its sha256.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.models.gguf import SUFFIX, read_header
from tunesmith.models.source import licence_of
from tunesmith.models.vet import read_config
from tunesmith.models.weights_file import read_weights

ANY_LANGUAGE = ("multilingual", "multi", "mul")
"""What cards say of models that were made for many languages."""

_PURPOSES = {
    "text_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image_classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "object_detection": "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
}
_WRITES = ("causal_lm", "preference")
_MOST_READ = 65_536
_SENTENCES = (
    ("apache-2.0", "apache license version 2.0"),
    ("mit", "permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("bsd-3-clause", "neither the name of"),
    ("bsd-2-clause", "redistribution and use in source and binary forms"),
)
"""By which the texts of the most frequent licences are known; the first that is found counts."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Traits of one model.

    name: as a recipe names it. path: its folder or weight file. tasks: what it can be fine-tuned for. parameters: None
    where the files do not tell. languages: as its card says, may be empty. where: how it came to be at hand.
    """

    name: str
    path: str
    where: str
    library: str
    architecture: str
    tasks: tuple[str, ...]
    parameters: int | None
    licence: str | None
    languages: tuple[str, ...] = ()

    @property
    def licence_id(self) -> str | None:
        """The licence in the short form of SPDX, lower case, as far as its words are known ones."""
        return licence_id(self.licence) if self.licence else None

    def speaks(self, language: str) -> bool | None:
        """Whether the card names this language (`en`, `zh`); None where it names none."""
        if not self.languages:
            return None
        wanted = language.lower()
        return any(told in ANY_LANGUAGE or re.split("[-_]", told)[0] == wanted for told in self.languages)


def card_of_folder(folder: Path, name: str, where: str) -> ModelCard:
    """The card of a model folder. ModelError, in words, where it is none that tunesmith could load."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError("it is an adapter, a small change to another model, and no model by itself")
    config = read_config(folder)
    entries = read_weights(folder)
    library = str(config.get("library", "timm" if "architecture" in config else "transformers"))
    floats = [entry for entry in entries.values() if entry.dtype.startswith(("F", "BF"))]
    return ModelCard(
        name=name,
        path=str(folder),
        where=where,
        library=library,
        architecture=str(config.get("builder") or config.get("architecture") or config.get("model_type") or ""),
        tasks=_tasks(config, library),
        parameters=sum(prod(entry.shape) for entry in floats),
        licence=_licence(folder),
        languages=languages_of(folder),
    )


def card_of_file(file: Path, name: str, where: str) -> ModelCard:
    """The card of a GGUF file, or of a weight file known by its sha256. ModelError where it is not known."""
    if file.suffix == SUFFIX:
        return _card_of_gguf(file, name, where)
    from tunesmith.models.vision_cards import card_of
    from tunesmith.models.vision_source import file_sha256

    known = card_of(file_sha256(file))
    if known is None:
        raise ModelError(
            "it is a weight file that does not say what network it belongs to, and is not known by its sha256"
        )
    return ModelCard(
        name=name,
        path=str(file),
        where=where,
        library=known.library,
        architecture=known.architecture,
        tasks=("image_classification", "object_detection"),
        parameters=_parameters_of_file(file),
        licence=known.licence or None,
    )


def _card_of_gguf(file: Path, name: str, where: str) -> ModelCard:
    header = read_header(file)
    return ModelCard(
        name=name,
        path=str(file),
        where=where,
        library="transformers",
        architecture=header.architecture,
        tasks=_WRITES,
        parameters=header.elements,
        licence=str(header.metadata.get("general.license") or "") or None,
    )


def licence_id(text: str) -> str:
    """`Apache License` and `apache-2.0` -> `apache-2.0`; `MIT License` -> `mit`; others stay, lower case."""
    plain = re.sub(r"[\s_]+", "-", re.sub(r"\([^)]*\)", "", text).strip().lower())
    plain = re.sub(r"(^the-|-?licen[sc]e-?|,)", "", plain).strip("-.") or plain
    return {
        "apache": "apache-2.0",
        "apache-2": "apache-2.0",
        "apache2": "apache-2.0",
        "apache2.0": "apache-2.0",
        "apache-version-2.0": "apache-2.0",
        "bsd-3-clause-new": "bsd-3-clause",
        "bsd-3": "bsd-3-clause",
        "bsd-2": "bsd-2-clause",
    }.get(plain, plain)


def _licence(folder: Path) -> str | None:
    """As the card or the first line of a licence file names it; where that is no name, by a sentence of the text."""
    told = licence_of(folder)
    if told is None or licence_id(told) in dict(_SENTENCES):
        return told
    for path in sorted(folder.glob("LICEN[SC]E*")):
        text = " ".join(path.read_text(encoding="utf-8", errors="replace")[:_MOST_READ].split()).lower()
        for name, sentence in _SENTENCES:
            if sentence in text:
                return name
    return told


def languages_of(folder: Path) -> tuple[str, ...]:
    """`language:` of the model card's front matter, in lower case: one, a list in brackets, or a line each."""
    card = folder / "README.md"
    if not card.is_file():
        return ()
    lines = card.read_text(encoding="utf-8", errors="replace")[:_MOST_READ].splitlines()
    if not lines or lines[0].strip() != "---":
        return ()
    found: list[str] = []
    inside = False
    for line in lines[1:]:
        if line.strip() == "---":
            return tuple(dict.fromkeys(found))
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "-", "#")):
            inside = key.strip() == "language"
            told = value.split("#")[0].strip().strip("[]") if inside else ""
            found += [each for each in (part.strip(" \"'").lower() for part in told.split(",")) if each]
        elif inside and line.strip().startswith("-"):
            found.append(line.strip().lstrip("-").strip(" \"'").lower())
    return ()  # the front matter never ended, so it was none


def _tasks(config: dict[str, Any], library: str) -> tuple[str, ...]:
    if library != "transformers":
        return ("object_detection",) if "builder" in config else ("image_classification", "object_detection")
    from transformers.models.auto import modeling_auto

    kind = str(config.get("model_type"))
    found = tuple(task for task, mapping in _PURPOSES.items() if kind in getattr(modeling_auto, mapping))
    return found + _WRITES if writes(config) else found


def writes(config: dict[str, Any]) -> bool:
    """Whether config.json describes a model that goes on with a text by itself: no encoder, none with an encoder, and
    not saved as a classifier."""
    from transformers.models.auto import modeling_auto

    kind, told = str(config.get("model_type")), config.get("architectures") or ()
    reads_both_ways = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder")
    return (
        kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and kind not in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        and not reads_both_ways
        and not any(str(each).endswith("Classification") for each in told)
    )


def _parameters_of_file(file: Path) -> int | None:
    """Values in a weight file that is known: shapes alone are read, weights stay on the disk."""
    if file.suffix == ".safetensors":
        from tunesmith.models.weights_file import read_header

        return sum(prod(entry.shape) for entry in read_header(file).values() if entry.dtype.startswith(("F", "BF")))
    import torch

    try:
        found = torch.load(file, map_location="meta", weights_only=True)  # shapes alone; runs no code
    except Exception:  # torch raises a dozen kinds; the model's own loading says what is wrong with the file
        return None
    tensors = found.values() if isinstance(found, dict) else ()
    return sum(t.numel() for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()) or None
