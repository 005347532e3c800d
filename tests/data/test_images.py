from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import picture_file

from tunesmith.data.images import Pictures, place_of
from tunesmith.data.store import Kept
from tunesmith.pictures.decode import PictureFault, read_picture, size_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one picture, and one picture beside the folder."""
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/ok.png").write_bytes(picture_file(0))
    (tmp_path / "beside.png").write_bytes(picture_file(1))
    (tmp_path / "data-too").mkdir()
    (tmp_path / "data-too/near.png").write_bytes(picture_file(2))
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["sub/ok.png", "./sub/ok.png", "sub/../sub/ok.png", "sub//ok.png"])
def test_a_path_inside_the_folder_is_found(name: str, data: Path) -> None:
    assert place_of(name, data) == (data / "sub/ok.png").resolve()


def test_a_path_from_the_root_may_lead_inside(data: Path) -> None:
    assert place_of(str(data / "sub/ok.png"), data) == (data / "sub/ok.png").resolve()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../beside.png", "leads out"),
        ("../data-too/near.png", "leads out"),
        ("sub/../../beside.png", "leads out"),
        ("/etc/hostname", "leads out"),
        ("../no_such_thing.png", "leads out"),
        ("out.png", "leads out"),
        ("out/near.png", "leads out"),
        ("dangling.png", "a link to nothing"),
        ("circle.png", "symbolic link"),
        ("sub", "no file but a folder"),
        ("pipe.png", "no file"),
        ("none.png", "does not exist"),
        ("~/ok.png", "does not exist"),
        ("$HOME/ok.png", "does not exist"),
        ("a\0.png", "control characters"),
        ("a\n.png", "control characters"),
        ("http://127.0.0.1:9/x.jpg", "URL"),
        ("FILE:///etc/hostname", "URL"),
        ("data:image/png;base64,AAAA", "URL"),
        ("sub/ok.png#bytes=0-10", "#bytes="),
        ("caf\udce9.png", "0xe9"),
        ("x" * 300 + ".png", "too long"),
    ],
)
def test_what_data_may_not_name_is_refused_in_words(name: str, reason: str, data: Path) -> None:
    (data / "out.png").symlink_to(data.parent / "beside.png")
    (data / "out").symlink_to(data.parent / "data-too")
    (data / "dangling.png").symlink_to("nothing.png")
    (data / "circle.png").symlink_to("circle.png")
    os.mkfifo(data / "pipe.png")
    with pytest.raises(PictureFault, match=reason):
        place_of(name, data)


def test_a_name_on_the_hub_has_no_folder_for_paths(data: Path) -> None:
    with pytest.raises(PictureFault, match="no folder"):
        place_of("sub/ok.png", None)


def test_a_link_that_stays_inside_is_followed(data: Path) -> None:
    (data / "alias.png").symlink_to("sub/ok.png")
    assert place_of("alias.png", data).name == "ok.png"


def _check(pictures: Pictures, cell: Any, within: Path | None) -> Kept | str:
    return pictures.check({"image": cell}, ["image"], encoding="utf-8", within=within, own_file=False)


def test_a_path_and_the_same_bytes_have_one_key_and_one_size(data: Path, tmp_path: Path) -> None:
    content = picture_file(0)
    pictures = Pictures(tmp_path / "run")
    (tmp_path / "run").mkdir()
    found = [_check(pictures, cell, data) for cell in ("sub/ok.png", content, {"bytes": content, "path": "x.png"})]
    found.append(_check(pictures, {"bytes": None, "path": "sub/ok.png"}, data))
    pictures.close(keep=True)
    assert all(isinstance(one, Kept) for one in found)
    assert len({one.exact for one in found if isinstance(one, Kept)}) == 1
    assert all(one.exact == one.normal and one.facts[1:] == (8, 6) for one in found if isinstance(one, Kept))
    places = [one.inputs[0] for one in found if isinstance(one, Kept)]
    blob = tmp_path / "run/pictures.bin"
    assert places[0] == places[3] == str((data / "sub/ok.png").resolve())
    assert places[1] == f"{blob}#bytes=0-{len(content)}"
    assert places[2] == f"{blob}#bytes={len(content)}-{2 * len(content)}"
    assert size_of(places[2]) == (8, 6)
    assert (read_picture(places[2]) == read_picture(content)).all()


def test_a_failed_load_leaves_no_half_written_pictures(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    _check(pictures, picture_file(0), None)
    pictures.close(keep=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, 'the picture in "image" is empty'),
        ("  ", 'the picture in "image" is empty'),
        (b"", "empty"),
        (7, '"image" is a number, neither a path nor the bytes'),
        ([1, 2], '"image" is a list'),
        ({"bytes": None, "path": None}, 'the picture in "image" is empty'),
        (b"no picture at all", "no picture"),
        ("sub/none.png", '"sub/none.png": the file does not exist'),
    ],
)
def test_a_cell_that_is_no_picture_has_a_reason(cell: Any, reason: str, data: Path, tmp_path: Path) -> None:
    found = _check(Pictures(tmp_path), cell, data)
    assert isinstance(found, str)
    assert reason in found


def test_windows_paths_are_read_as_folders_and_noted(data: Path, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    assert isinstance(_check(pictures, "sub\\ok.png", data), Kept)
    assert pictures.notes() == ["1 paths are written with backslashes; they were read as folders."]
    outside = _check(pictures, "..\\beside.png", data)
    assert isinstance(outside, str)
    assert "leads out" in outside
