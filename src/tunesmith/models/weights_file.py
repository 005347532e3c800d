"""The weights of a model folder as they lie on disk: found, whole, and inside the folder; read without trust.

Only headers are read. A safetensors file (github.com/huggingface/safetensors) is 8 bytes of little-endian header
length, the header as JSON {name: {dtype, shape, data_offsets: [begin, end]}}, then the data; offsets count from the
end of the header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tunesmith.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".pickle")
OTHER_FORMATS = (".h5", ".msgpack", ".gguf", ".onnx", ".tflite", ".ot", ".npz")

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""

_BITS = {"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}
_BITS |= {"U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8}
_BITS |= {"F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}

_MOST_DIMENSIONS = 16
"""Of a tensor; networks have up to five. A hundred thousand would take minutes to multiply."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as the header tells it; begin and end are byte offsets into the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_weights(folder: Path) -> dict[str, TensorEntry]:
    """The tensors of a model folder by name; ModelError, saying what to do, unless all are there as safetensors."""
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise ModelError(
            f"{folder} has safetensors under other names ({', '.join(others[:5])}) but no {WEIGHTS} and no {INDEX}. "
            f"If one of them is the whole model, rename it to {WEIGHTS}; if they are parts, fetch the index too."
        )
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE)
    if pickles:
        raise ModelError(_about_pickle(folder, pickles))
    formats = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_FORMATS)
    if formats:
        raise ModelError(
            f"{folder} has weights only as {', '.join(formats[:5])}. tunesmith reads safetensors ({WEIGHTS}): fetch "
            "the model in that format."
        )
    raise ModelError(f"{folder} has a config but no weights. Fetch {WEIGHTS} too. It holds: {listing(folder)}.")


def _read_shards(folder: Path) -> dict[str, TensorEntry]:
    path = folder / INDEX
    weight_map = read_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelError(f"{path} has no weight_map from tensor names to files. Fetch it again.")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if PurePosixPath(shard).name != shard or PureWindowsPath(shard).name != shard or not shard.strip("."):
            raise ModelError(
                f'{path} points to "{shard}", outside the model\'s folder. Refused: a model is read from its own '
                "folder only. Put the file beside the index and name it there."
            )
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the {len(shards)} weight files that its index names: "
            f"{', '.join(missing[:5])}. Fetch them too."
        )
    tensors: dict[str, TensorEntry] = {}
    for shard in shards:
        tensors.update(read_header(folder / shard))
    absent = [name for name in weight_map if name not in tensors]
    if absent:
        raise ModelError(
            f"The weight files in {folder} lack {len(absent)} tensors that the index promises: "
            f"{', '.join(absent[:5])}. The files are of different versions; fetch all of them again."
        )
    return tensors


def _about_pickle(folder: Path, names: list[str]) -> str:
    return (
        f"{folder} has its weights only as pickle ({', '.join(names[:5])}), and opening a pickle can run any code, so "
        f"tunesmith never does. Look for the same model with {WEIGHTS}. Or convert it on a machine that you can lose:\n"
        '    python -c "import torch; from safetensors.torch import save_file; w = torch.load('
        f"'{names[0]}', weights_only=True, map_location='cpu'); save_file({{k: v.clone().contiguous() for k, v in "
        f"w.items()}}, '{WEIGHTS}', {{'format': 'pt'}})\""
    )


def read_object(path: Path) -> dict[str, Any]:
    """A file that must hold a JSON object; ModelError with the line where it is broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{path} is not JSON: {error.msg} (line {error.lineno}, column {error.colno}). "
            "Fetch it again, or mend it (names stand in double quotes, no comma after the last entry)."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON that can be read ({type(error).__name__}). Fetch it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a JSON {type(found).__name__}, not an object {{...}}. Fetch it again.")
    return found


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name, after checking that the file holds every byte they claim.

    Reads the header only. Raises ModelError for anything that is not a whole safetensors file, naming what it is
    instead where that can be told.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        _refuse_other_contents(path, start, size)
        length = int.from_bytes(start[:8], "little")
        if length > min(LARGEST_HEADER, size - 8):
            raise ModelError(
                f"{path} is not a safetensors file, or only its beginning: its first 8 bytes announce a header of "
                f"{length:,} bytes, the whole file has {size:,}. Fetch it again."
            )
        file.seek(8)
        raw = file.read(length)
    entries = _entries(path, raw)
    expected = 8 + length + max((entry.end for entry in entries.values()), default=0)
    if size != expected:
        what = "cut off" if size < expected else "longer than its header says"
        raise ModelError(
            f"{path} is {what}: it has {size:,} bytes and should have {expected:,}. Fetch or copy it again "
            "(and compare the sha256 with its source)."
        )
    return entries


def _refuse_other_contents(path: Path, start: bytes, size: int) -> None:
    if start[8:9] == b"{":
        return  # a header: the length before it may happen to begin like a pickle (0x80) or a page (0x20 0x3c)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path} is a Git LFS pointer, {size} bytes of text that stand for the weights, not the weights. "
            "Run `git lfs install && git lfs pull` in the repository it came from, or fetch the model another way."
        )
    if start.lstrip()[:1] == b"<":
        raise ModelError(
            f"{path} is a web page (HTML), not weights: a download went to an error or login page. "
            "Open the link in a browser to see why, then fetch the file again."
        )
    if start.startswith((b"PK\x03\x04", b"\x80")):
        raise ModelError(
            f"{path} is a pickle of PyTorch under a safetensors name. It is not opened: a pickle can run any code. "
            "Ask its source for real safetensors."
        )
    if size < 8:
        raise ModelError(f"{path} has only {size} bytes; it is not a safetensors file. Fetch it again.")


def _entries(path: Path, raw: bytes) -> dict[str, TensorEntry]:
    """As strict as the safetensors library, which would raise an error of its own for what is passed over here."""
    try:
        header = json.loads(raw.decode("utf-8"))
        notes = header.pop("__metadata__", None) or {}
        if not all(isinstance(value, str) for value in notes.values()):
            raise ValueError("__metadata__ holds more than text")
        found = {name: _entry(told) for name, told in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"{path} has no readable safetensors header ({type(error).__name__}): the file is damaged or of another "
            "kind. Fetch it again."
        ) from error
    place = 0
    for name, entry in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        told = f"tensor {name[:100]} claims shape {list(entry.shape)} of {entry.dtype[:20]}"
        if entry.dtype not in _BITS:
            raise ModelError(f"{path}: {told}, a type that safetensors does not have. Fetch it again.")
        if (entry.end - entry.begin) * 8 != _BITS[entry.dtype] * prod(entry.shape):
            raise ModelError(
                f"{path}: {told} but has {entry.end - entry.begin} bytes. The file is damaged; fetch it again."
            )
        if entry.begin != place:
            raise ModelError(
                f"{path}: {told} at byte {entry.begin:,}, where byte {place:,} is the next that belongs to no other "
                "tensor. The file is damaged; fetch it again."
            )
        place = entry.end
    return found


def _entry(told: dict[str, Any]) -> TensorEntry:
    begin, end = told["data_offsets"]
    shape = told["shape"]
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("more dimensions than a tensor has")
    if any(type(n) is not int for n in (begin, end, *shape)):
        raise TypeError("offsets or shape are not whole numbers")
    if begin < 0 or end < begin or any(n < 0 for n in shape) or prod(n for n in shape if n) >= 2**63:
        raise ValueError("offsets or shape are negative, or beyond all files")
    if not isinstance(told["dtype"], str):
        raise TypeError("dtype is no text")
    return TensorEntry(told["dtype"], tuple(shape), begin, end)


def listing(folder: Path) -> str:
    """The names in a folder for a message, cut after ten."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "nothing"
