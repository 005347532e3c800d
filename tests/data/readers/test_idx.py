from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunesmith.data.load import read_unlabelled
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError
from tunesmith.pictures.decode import read_picture
from tunesmith.types import Dataset

Seen = Callable[..., Dataset]


def _idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def _pictures(count: int, seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (5, 7))), dtype=np.uint8)


def _mnist(root: Path, *, packed: bool) -> dict[str, np.ndarray]:
    root.mkdir()
    found = {}
    for number, (part, count) in enumerate((("train", 20), ("t10k", 6))):
        found[part] = _pictures(count, number)
        labels = np.arange(count, dtype=np.uint8) % 2 + 9
        for name, values in (("images-idx3", found[part]), ("labels-idx1", labels)):
            content = _idx(values)
            path = root / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_like_mnist_gives_train_and_test(packed: bool, tmp_path: Path, seen: Seen) -> None:
    pictures = _mnist(tmp_path / "raw", packed=packed)
    dataset = seen(tmp_path / "raw")
    assert dataset.labels == ("9", "10")
    assert dataset.summary.split_sizes == {"train": 18, "validation": 2, "test": 6}
    for number, example in enumerate(dataset.test):
        place = example.inputs["image"]
        assert place.startswith(f"{(tmp_path / 'run/pictures.bin').resolve()}#bytes=")
        assert (read_picture(place) == pictures["t10k"][number][:, :, None]).all()
        assert (example.label, example.line) == (str(number % 2 + 9), number + 1)


def test_plain_and_packed_files_of_one_name_are_read_once(tmp_path: Path, seen: Seen) -> None:
    _mnist(tmp_path / "raw", packed=False)
    for path in list((tmp_path / "raw").iterdir()):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert seen(tmp_path / "raw").summary.read == 26


def test_one_file_of_colour_pictures_finds_its_labels(tmp_path: Path, seen: Seen) -> None:
    pictures = _pictures(20, 0, 4, 6, 3)
    (tmp_path / "svhn-images.idx4-ubyte").write_bytes(_idx(pictures))
    (tmp_path / "svhn-labels.idx1-ubyte").write_bytes(_idx(np.arange(20, dtype=np.uint8) % 2))
    dataset = seen(tmp_path / "svhn-images.idx4-ubyte", split={"validation": 0, "test": 0})
    assert dataset.labels == ("0", "1")
    assert (read_picture(dataset.train[3].inputs["image"]) == pictures[3]).all()


def test_without_labels_pictures_can_be_predicted(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(_idx(_pictures(3, 0)))
    path = str(tmp_path / "x-images-idx3-ubyte")
    examples = read_unlabelled(path, DataOptions(path="x"), tmp_path / "p", ("image",), kind="images")
    assert [e.label for e in examples] == [None] * 3


def _damaged(content: bytes, labels: bytes) -> dict[str, tuple[bytes, bytes, str]]:
    more = _idx(np.zeros(21, dtype=np.uint8))
    packed = gzip.compress(content)
    return {
        "cut": (content[:-10], labels, "ends in the middle of picture 20"),
        "cut_head": (content[:9], labels, "ends in the middle of the header"),
        "longer": (content + b"x", labels, "more follows the 20 pictures"),
        "other": (b"\0\0\x0d\3" + content[4:], labels, "no IDX file of bytes"),
        "page": (b"<html>not found</html>", labels, "no IDX file"),
        "counts": (content, more, "20 pictures, but"),
        "huge": (struct.pack(">HBB3I", 0, 8, 3, 1, 2**31, 2**31), labels, "cannot be read"),
        "packed_cut": (packed[:-40], labels, "damaged|ends in the middle"),
    }


@pytest.mark.parametrize("fault", ["cut", "cut_head", "longer", "other", "page", "counts", "huge", "packed_cut"])
def test_a_damaged_file_is_refused_in_words(fault: str, tmp_path: Path, seen: Seen) -> None:
    labels = _idx(np.arange(20, dtype=np.uint8) % 2)
    content, numbers, words = _damaged(_idx(_pictures(20, 0)), labels)[fault]
    ending = ".gz" if fault == "packed_cut" else ""
    (tmp_path / f"a-images-idx3-ubyte{ending}").write_bytes(content)
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(numbers)
    with pytest.raises(DataError, match=words):
        seen(tmp_path / f"a-images-idx3-ubyte{ending}")
