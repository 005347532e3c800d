"""The head of a GGUF file, read without trust: every count and length is held against the file before it is used.

GGUF (github.com/ggml-org/ggml, docs/gguf.md) is, little-endian: the magic `GGUF`, version (uint32), number of tensors
and of metadata entries (uint64 each); the entries, each a name, a type and a value; each tensor's name, dimensions
(fastest first), type and offset; padding; the tensors' bytes. Strings and arrays are told by their length. Libraries
that read it believe those lengths: a file of 100 bytes that announces 2^60 entries keeps them busy until memory ends.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 4_000_000
"""Of one array; the largest vocabularies have 300,000 tokens and as many merges."""

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_FETCH = "Fetch it again (and compare its sha256 with the source's)."


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself. metadata: numbers and texts by name, arrays by their length alone. shapes: of
    each tensor, slowest dimension first, as torch writes them."""

    metadata: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """llama.cpp's word for the kind of network."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def elements(self) -> int:
        """Numbers in all tensors together."""
        return sum(prod(shape) for shape in self.shapes.values())

    def size(self, name: str) -> int | None:
        """A whole number of the architecture's own entries, such as `block_count`; None where it is not told."""
        told = self.metadata.get(f"{self.architecture}.{name}")
        return told if isinstance(told, int) else None


def read_gguf_header(path: Path, bytes_of: Mapping[int, tuple[int, int]]) -> GgufHeader:
    """The head of a GGUF file, after checking that the file holds every byte it tells of.

    bytes_of: numbers a block and bytes a block of each tensor type. ModelError, naming what the file is instead where
    that can be told, for anything else; only the head is read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _refuse_other_contents(path, file.read(512))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data, size).header(bytes_of)
            except _Damaged as fault:
                raise ModelError(f"{path} is damaged or not whole: {fault}. {_FETCH}") from fault


def _refuse_other_contents(path: Path, start: bytes) -> None:
    if start.startswith(MAGIC):
        return
    if start.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer, a few lines that stand for the model; run `git lfs pull` where it came from"
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        what = "a pickle of PyTorch under a GGUF name. It is not opened: a pickle can run any code"
    elif start.lstrip()[:1] == b"<":
        what = "a web page (HTML): a download went to an error or login page"
    elif start[8:9] == b"{":
        what = "a safetensors file under a GGUF name; name it .safetensors and put its config.json beside it"
    elif start.startswith((b"ggml", b"lmgg", b"ggjt", b"tjgg")):
        what = "an old ggml file from before GGUF, which says too little of its network"
    else:
        what = "empty" if not start else "something else: it does not begin with the four letters GGUF"
    raise ModelError(f"{path} is not a GGUF file but {what}." if start else f"{path} is empty. {_FETCH}")


class _Damaged(Exception):
    """What does not fit, as the end of a sentence."""


class _Reader:
    """Walks through the head; `place` never leaves the file."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self.data, self.size, self.place = data, size, 4

    def header(self, bytes_of: Mapping[int, tuple[int, int]]) -> GgufHeader:
        version = self.number("<I")
        if version not in VERSIONS:
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big") in VERSIONS
            raise _Damaged(
                "it was written for processors of the other byte order" if swapped else f"it says version {version}"
            )
        tensors, entries = self.number("<Q"), self.number("<Q")
        # The shortest tensor tells 32 bytes of itself, the shortest entry 13.
        self.check_count(tensors, 32, "tensors")
        self.check_count(entries, 13, "metadata entries")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            name = self.text()
            metadata[name] = self.value(self.number("<I"))
        told = [self.tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise _Damaged(f"its alignment is {alignment}, not a power of two")
        start = -(-self.place // alignment) * alignment
        for name, shape, kind, offset in told:
            self.check_tensor(name, shape, kind, start + offset, bytes_of)
        shapes = {name: shape for name, shape, _, _ in told}
        if len(shapes) != len(told):
            raise _Damaged("two of its tensors have the same name")
        return GgufHeader(metadata, shapes)

    def number(self, form: str) -> Any:
        end = self.place + struct.calcsize(form)
        if end > self.size:
            raise _Damaged(f"it ends at {self.size:,} bytes, in the middle of its head")
        (found,) = struct.unpack_from(form, self.data, self.place)
        self.place = end
        return found

    def skip_text(self) -> bytes:
        length = self.number("<Q")
        if length > self.size - self.place:
            raise _Damaged(f"at byte {self.place:,} it announces a text of {length:,} bytes, of {self.size:,} in all")
        self.place += length
        return self.data[self.place - length : self.place]

    def text(self) -> str:
        try:
            return self.skip_text().decode("utf-8")
        except UnicodeDecodeError as fault:
            raise _Damaged(f"a text before byte {self.place:,} is not UTF-8") from fault

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise _Damaged(f"an entry before byte {self.place:,} has the unknown type {kind}")
            return self.number(_SCALARS[kind])
        inner, count = self.number("<I"), self.number("<Q")
        if inner != _STRING and inner not in _SCALARS:
            raise _Damaged(f"an array before byte {self.place:,} is of the unknown type {inner}")
        width = 8 if inner == _STRING else struct.calcsize(_SCALARS[inner])
        self.check_count(count, width, "entries of an array")
        if count > MOST_ENTRIES:
            raise _Damaged(f"it announces an array of {count:,} entries, more than {MOST_ENTRIES:,}")
        if inner == _STRING:
            for _ in range(count):
                self.skip_text()
        else:
            self.place += count * width
        return count

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.text(), self.number("<I")
        if not 1 <= dimensions <= 4:
            raise _Damaged(f"tensor {name} claims {dimensions} dimensions")
        shape = tuple(self.number("<Q") for _ in range(dimensions))[::-1]
        return name, shape, self.number("<I"), self.number("<Q")

    def check_count(self, count: int, width: int, what: str) -> None:
        if count * width > self.size - self.place:
            raise _Damaged(f"it announces {count:,} {what} and has only {self.size:,} bytes")

    def check_tensor(
        self, name: str, shape: tuple[int, ...], kind: int, begin: int, bytes_of: Mapping[int, tuple[int, int]]
    ) -> None:
        if kind not in bytes_of:
            raise _Damaged(f"tensor {name} is of type {kind}, unknown unless to a newer gguf (pip install -U gguf)")
        block, width = bytes_of[kind]
        if not all(shape) or shape[-1] % block:
            raise _Damaged(f"tensor {name} claims shape {list(shape)}, which is not in blocks of {block}")
        if begin + prod(shape) // block * width > self.size:
            raise _Damaged(f"tensor {name} of shape {list(shape)} goes beyond its end at {self.size:,} bytes")
