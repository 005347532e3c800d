from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunesmith.errors import RecipeError
from tunesmith.places import harness_parts, resolve_place


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that must never be imported."""
    root = tmp_path / "site/withdata"
    (root / "sub").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    (root / "sub/a.csv").write_text("text,label\n")
    (tmp_path / "site/other.csv").write_text("secret")
    (root / "sub/link.csv").symlink_to(tmp_path / "site/other.csv")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "withdata"


def test_a_place_in_a_package_is_found_without_importing_it(package: str) -> None:
    assert Path(resolve_place(f"package:{package}/sub/a.csv")).read_text() == "text,label\n"
    assert Path(resolve_place(f"package:{package}")).is_dir()
    assert package not in sys.modules


def test_other_names_come_back_as_they_are() -> None:
    assert resolve_place("data/a.csv") == "data/a.csv"


@pytest.mark.parametrize(
    "inside", ["../other.csv", "sub/../../other.csv", "/etc/hostname", "sub\\..\\x", "sub/link.csv"]
)
def test_nothing_outside_the_package_is_reached(package: str, inside: str) -> None:
    with pytest.raises(RecipeError):
        resolve_place(f"package:{package}/{inside}")


def test_a_package_that_is_not_there_comes_with_the_pip_command() -> None:
    with pytest.raises(RecipeError, match="pip install --no-deps not-here"):
        resolve_place("package:not_here/x")


def test_a_wrong_path_lists_what_is_there(package: str) -> None:
    with pytest.raises(RecipeError, match=r"withdata/sub holds a\.csv"):
        resolve_place(f"package:{package}/sub/b.csv")


@pytest.mark.parametrize("name", ["package:", "package:a.b/c", "package:../x", "package:sys/x"])
def test_what_is_no_package_is_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        resolve_place(name)


def test_a_task_of_the_harness_is_told_from_other_names() -> None:
    assert harness_parts("harness:arc_easy") == ("harness:", "arc_easy")
    assert harness_parts("harness:hf:arc_easy") == ("harness:hf:", "arc_easy")
    assert harness_parts("runs/news") == ("", "runs/news")
    assert harness_parts("hf:org/name") == ("", "hf:org/name")
