"""The tokenizer of a model's folder, read and tried: every place that reads one reads it here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.quiet import quiet

_PROBE = "A word, 12 ones;\n\tand à ß 漢字 🙂"


def read_tokenizer(folder: Path, *, pairs: bool = False) -> Any:
    """The folder's tokenizer, none of its own code run. ModelError where it cannot be read, or cannot cut a text.

    pairs: whether it may be given pairs of texts.
    """
    from transformers import AutoTokenizer

    with vet.reading(folder), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    try_tokenizer(tokenizer, folder, pairs=pairs)
    return tokenizer


def try_tokenizer(tokenizer: Any, folder: Path, *, pairs: bool = False) -> None:
    """Cut a text (and a pair of texts). ModelError where it fails: a tokenizer.json may load and then panic, since the
    Rust behind it believes the file (a piece length of 0, a special token that is not listed, a broken table)."""
    try:
        tokenizer(_PROBE)
        if pairs:
            tokenizer([_PROBE, "a"], ["a", _PROBE])
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:  # a panic is no Exception
        if isinstance(error, Exception) and "unk" in str(error).lower():
            return  # it knows its own alphabet alone, of molecules or moves: what is in it can be cut
        raise ModelError(
            f"The tokenizer in {folder} can be read but cannot cut a text ({' '.join(str(error).split())[:300]}): its "
            "files (tokenizer.json) are damaged, or of another version. Fetch them again."
        ) from error
