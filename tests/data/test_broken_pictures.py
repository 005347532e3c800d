"""Every broken or hostile picture, tree and path either loads, with what counts, or ends in words that teach."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.conftest import SHARED, quarantined
from tests.tar_files import unpack

from tunesmith.data.load import read_unlabelled
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError
from tunesmith.pictures.decode import read_picture
from tunesmith.types import Dataset, Examples

IMAGES, PATHS = SHARED / "broken/images", SHARED / "broken/paths"
Seen = Callable[..., Dataset]

# file -> a word of the reason, or "" where it must be usable
FILES = {
    "truncated.jpg": "cut off",
    "zero_bytes.jpg": "empty",
    "text_as_image.jpg": "HTML",
    "png_named.jpg": "",
    "cmyk.jpg": "",
    "gray.jpg": "",
    "rgba.png": "",
    "palette_transparent.png": "",
    "sixteen_bit.png": "",
    "one_pixel.png": "",
    "thin_1x4000.png": "",
    "exif_rotated.jpg": "",
    "bad_crc.png": "damaged",
    "animated.gif": "",
    "image.webp": "",
    "huge_declared.png": "pixels",
}


@pytest.fixture
def bad_files(shared: Path, seen: Seen) -> Dataset:
    return seen(IMAGES / "bad_files", max_bad_share=0.5)


@pytest.mark.parametrize("name", FILES)
def test_a_broken_picture_is_used_or_quarantined_with_its_reason(name: str, bad_files: Dataset, tmp_path: Path) -> None:
    used = {Path(e.inputs["image"]).name: e for p in _parts(bad_files) for e in p}
    reasons = {Path(row["file"]).name: row["reason"] for row in quarantined(tmp_path / "run")}
    if FILES[name]:
        assert FILES[name] in reasons[name]
        assert name not in used
    else:
        assert name not in reasons
        assert read_picture(used[name].inputs["image"]).ndim == 3


def test_every_broken_picture_is_in_the_table(bad_files: Dataset) -> None:
    assert {path.name for path in (IMAGES / "bad_files/train/a").iterdir()} == FILES.keys()
    assert (bad_files.summary.read, bad_files.summary.used, bad_files.summary.quarantined) == (20, 15, 5)


def test_too_many_broken_pictures_stop_the_load(shared: Path, seen: Seen) -> None:
    with pytest.raises(DataError, match=r"5 of 20 rows cannot be used.*\n.*bad_crc.png:1"):
        seen(IMAGES / "bad_files")


def test_a_picture_of_400_million_pixels_is_refused_at_once(shared: Path, seen: Seen, tmp_path: Path) -> None:
    begun = time.process_time()
    with pytest.raises(DataError, match=r'all rows have the label "b".*huge.png:1: the picture has more than'):
        seen(IMAGES / "huge", max_bad_share=0.9)
    assert time.process_time() - begun < 1
    assert [Path(row["file"]).name for row in quarantined(tmp_path / "run")] == ["huge.png"]


def test_an_odd_tree_gives_the_documented_classes(shared: Path, seen: Seen) -> None:
    dataset = seen(IMAGES / "odd_tree", split={"validation": 0, "test": 0})
    counts = {"Cat": 1, "café": 2, "cat": 1, "dog": 2, "with space": 1, "猫": 1}
    assert dataset.summary.class_counts["train"] == counts
    notes = "\n".join(dataset.summary.notes)
    for words in ("no picture in empty_class", '"Cat" and "cat"', "2 folders spell", "1 hidden folder(s)"):
        assert words in notes
    assert "2 file(s) that are no pictures" in notes


def test_a_class_that_train_lacks_is_an_error_that_names_it(shared: Path, seen: Seen) -> None:
    with pytest.raises(DataError, match=r'train.*lack: "c" in 1 rows .*val/c/1.jpg:1.*Train knows: a, b'):
        seen(IMAGES / "class_mismatch")


def test_classes_are_numbered_by_train_and_the_leak_is_reported(shared: Path, seen: Seen) -> None:
    dataset = seen(IMAGES / "class_mismatch", labels=("a", "b"), max_bad_share=0.5)
    assert dataset.labels == ("a", "b")
    leak = next(note for note in dataset.summary.notes if note.startswith("LEAK"))
    assert "1 of 1 validation rows have a picture that is in train too (pixel by pixel)" in leak
    assert not any("text" in note for note in dataset.summary.notes)


def test_only_the_picture_inside_the_folder_is_read(shared: Path, tmp_path: Path) -> None:
    options = DataOptions(path="x", max_bad_share=1)
    path = str(PATHS / "manifest.csv")
    (only,) = read_unlabelled(path, options, tmp_path / "run", ("image",), kind="images")
    assert only.inputs["image"] == str((PATHS / "ok.jpg").resolve())
    reasons = {row["raw"]["image"]: row["reason"] for row in quarantined(tmp_path / "run")}
    wanted = {
        "../../../../etc/passwd": "leads out",
        "/etc/hostname": "leads out",
        "..\\..\\windows\\win.ini": "leads out",
        "file:///etc/hostname": "URL",
        "http://127.0.0.1:9/x.jpg": "URL",
        "sub/../ok.jpg": "does not exist",
        "~/secret.jpg": "does not exist",
        "$HOME/x.jpg": "does not exist",
        "with\nnewline.jpg": "line end",
        "CON": "does not exist",
    }
    assert reasons.keys() == wanted.keys()
    assert all(wanted[name] in reason for name, reason in reasons.items())
    assert not any("root:" in reason for reason in reasons.values())


@pytest.mark.parametrize("name", ["zip_slip.zip", "tar_slip.tar.gz", "symlink_loop.tar"])
def test_an_archive_is_refused_and_never_unpacked(name: str, shared: Path, seen: Seen, tmp_path: Path) -> None:
    shutil.copy(PATHS / name, tmp_path)
    with pytest.raises(DataError, match="unpack it, then name that"):
        seen(tmp_path / name)
    assert not list(tmp_path.rglob("*marker*"))
    assert not Path("/tmp/zip_abs_marker.txt").exists()


def test_a_tree_with_circles_of_links_is_scanned_to_an_end(shared: Path, seen: Seen, tmp_path: Path) -> None:
    unpack(PATHS / "symlink_loop.tar", tmp_path / "x", trusted=True)  # the links that lead out are what is tested
    examples = read_unlabelled(
        str(tmp_path / "x/data"), DataOptions(path="x", max_bad_share=1), tmp_path / "run", ("image",), kind="images"
    )
    assert sorted(Path(e.inputs["image"]).relative_to(tmp_path.resolve() / "x/data").as_posix() for e in examples) == [
        "cat/1.jpg",
        "dog/1.jpg",
    ]
    reasons = {Path(row["file"]).name: row["reason"] for row in quarantined(tmp_path / "run")}
    assert "link to nothing" in reasons["dangling.jpg"]
    assert "leads out" in reasons["outside.jpg"]
    notes = seen(tmp_path / "x/data", max_bad_share=0.5).summary.notes
    assert any("3 link(s) that are not followed, such as cat/loop, self, up" in note for note in notes)


def _parts(dataset: Dataset) -> tuple[Examples, ...]:
    return dataset.train, dataset.validation, dataset.test
