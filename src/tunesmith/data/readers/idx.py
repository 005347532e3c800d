"""IDX files of pictures, as MNIST, Fashion-MNIST, KMNIST and EMNIST come: images and labels, plain or .gz.

The data are a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte (train) and t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte (test), or one file of images, whose labels lie beside it. A picture becomes a PGM file (PPM for
colour, four dimensions with three channels); a label is its number. The format is that of Yann LeCun's page on MNIST:
two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as four bytes, big end first, the values.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from tunesmith.data.options import DataOptions
from tunesmith.data.readers._walk import leads_out, links_aside
from tunesmith.data.readers.base import Reader, Row, Table
from tunesmith.errors import DataError

_IMAGES = re.compile(r"(?P<stem>.*?)images(?P<gap>[-_.])idx[34](?P<rest>[-_.]ubyte)(?P<gz>\.gz)?", re.IGNORECASE)
_UNSIGNED_BYTES = 8
_LARGEST = 1 << 26  # bytes of one picture: above any such data set, small enough to hold


class Idx(Reader):
    """Reads pairs of IDX files."""

    kinds = ("images",)

    def recognises(self, path: Path) -> bool:
        """A folder with a file of images, or such a file, by their names."""
        return bool(_images(path))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a file of images."""
        aside = links_aside(shown, _links_out(path))
        for images in _images(path):
            name = f"{shown.rstrip('/')}/{images.name}" if path.is_dir() else shown
            labels = _labels(images)
            yield Table(
                file=name,
                columns=("image", "label") if labels else ("image",),
                rows=_rows(images, labels, name),
                part=_part(images.name) if path.is_dir() else None,
                notes=aside if labels else [*aside, f"{name}: no file of labels lies beside it."],
            )
            aside = []  # it is told once

    def sha256(self, path: Path) -> str:
        """Hash over all files of images and labels."""
        digest = hashlib.sha256()
        for images in _images(path):
            for file in filter(None, (images, _labels(images))):
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def _images(path: Path) -> list[Path]:
    """The files of images; of a plain one and a .gz of the same name the plain one."""
    if not path.is_dir():
        return [path] if _IMAGES.fullmatch(path.name) else []
    home = path.resolve()
    files = sorted(file for file in path.iterdir() if _IMAGES.fullmatch(file.name) and file.is_file())
    files = [file for file in files if not leads_out(file, home)]  # which _links_out tells
    return [file for file in files if not (file.suffix == ".gz" and file.with_suffix("") in files)]


def _links_out(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    home = path.resolve()
    return sorted(file.name for file in path.iterdir() if _IMAGES.fullmatch(file.name) and leads_out(file, home))


def _labels(images: Path) -> Path | None:
    """The file of labels beside a file of images; plain or .gz does not matter. DataError where it is a link out."""
    name = _IMAGES.fullmatch(images.name)
    assert name is not None
    wanted = f"{name['stem']}labels{name['gap']}idx1{name['rest']}".casefold()
    home = images.parent.resolve()
    found = [file for file in sorted(images.parent.iterdir()) if file.name.casefold() in (wanted, wanted + ".gz")]
    files = [file for file in found if file.is_file()]
    inside = next((file for file in files if not leads_out(file, home)), None)
    if files and inside is None:
        raise DataError(
            f"{files[0]}, the labels of {images.name}, is a link that leads out of the folder, and nothing outside it "
            f"is read. Copy the file to the place of the link."
        )
    return inside


def _part(name: str) -> str | None:
    words = set(re.split(r"[-_.]", name.casefold()))
    return "train" if "train" in words else "test" if words & {"t10k", "test"} else None


def _rows(images: Path, labels: Path | None, shown: str) -> Iterator[Row]:
    with _open(images) as stream:
        count, *shape = _header(stream, shown, (3, 4))
        head, size = _form(shape, shown)
        numbers = None if labels is None else _label_numbers(labels, count, shown)
        for number in range(count):
            values: dict[str, object] = {"image": head + _exactly(stream, size, shown, f"picture {number + 1}")}
            if numbers is not None:
                values["label"] = next(numbers)
            yield Row(number + 1, values)
        if _read(stream, 1, shown, "its end"):
            raise DataError(f"{shown}: more follows the {count:,} pictures that its header counts; fetch it again.")


def _label_numbers(labels: Path, pictures: int, shown: str) -> Iterator[int]:
    """The label of each picture, 0 to 255, one after the other: what a header counts need not be there."""
    with _open(labels) as stream:
        (count,) = _header(stream, str(labels), (1,))
        if count != pictures:
            raise DataError(f"{shown} holds {pictures:,} pictures, but {labels.name} {count:,} labels: no pair.")
        for _ in range(count):
            yield _exactly(stream, 1, str(labels), "the labels")[0]


def _header(stream: IO[bytes], shown: str, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """The length of each dimension."""
    zero, kind, count = struct.unpack(">HBB", _exactly(stream, 4, shown, "the header"))
    if zero or kind != _UNSIGNED_BYTES or count not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        raise DataError(f"{shown} is no IDX file of bytes in {wanted} dimensions, to judge by its first four bytes.")
    return struct.unpack(f">{count}I", _exactly(stream, 4 * count, shown, "the header"))


def _form(shape: list[int], shown: str) -> tuple[bytes, int]:
    """(the start of a PGM or PPM file of such a picture, how many bytes follow it)."""
    height, width, channels = (*shape, 1)[:3]
    size = height * width * channels
    if not 0 < size <= _LARGEST or channels not in (1, 3):
        raise DataError(f"{shown}: a picture of {' x '.join(map(str, shape))} cannot be read; grey or RGB is needed.")
    return f"P{5 if channels == 1 else 6}\n{width} {height}\n255\n".encode(), size


def _open(path: Path) -> IO[bytes]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(IO[bytes], opener(path, "rb"))


def _exactly(stream: IO[bytes], size: int, shown: str, what: str) -> bytes:
    found = _read(stream, size, shown, what)
    if len(found) < size:
        raise DataError(f"{shown} ends in the middle of {what}: it was cut off. Fetch it again.")
    return found


def _read(stream: IO[bytes], size: int, shown: str, what: str) -> bytes:
    try:
        return stream.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shown} is damaged at {what}: {error}. Fetch it again.") from error
