"""Plugin, a frozen set of options with behaviour, and Registry, which finds plugins by file name.

Adding a plugin is adding a file: its name is the plugin's name, its docstring its documentation, the class in it the
plugin. Other packages add theirs through the entry-point group of the registry (`tunesmith.methods`, ...).
Listing reads file names and docstrings only; a plugin is imported when it is first asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import RecipeError, did_you_mean


class Options(BaseModel):
    """Base of everything a recipe can set: frozen, strict about unknown keys, every field with its limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Plugin(Options):
    """One task, method, reader or retention. Fields are its YAML options; `name` is its file's name."""

    name: ClassVar[str] = ""


P = TypeVar("P", bound=Plugin)


class Registry(Generic[P]):
    """The plugins of one package, by file name. `base` itself and files that start with `_` are not plugins."""

    def __init__(self, package: str, base: type[P]) -> None:
        self.package = package
        self.base = base

    def names(self) -> tuple[str, ...]:
        """Every plugin's name, sorted, without importing any."""
        return tuple(sorted({*self._files(), *self._entries()}))

    def describe(self, name: str) -> str:
        """First line of the plugin's module docstring, read without importing it."""
        return self.page(name).partition("\n")[0]

    def page(self, name: str) -> str:
        """The plugin's whole module docstring: its documentation page."""
        file = self._files().get(name)
        if file is None:
            entry = self._entries().get(name)
            spec = importlib.util.find_spec(entry.module) if entry else None
            if spec is None or spec.origin is None:
                return ""
            file = Path(spec.origin)
        return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""

    def get(self, name: str) -> type[P]:
        """The plugin class of that name; RecipeError with a suggestion when there is none."""
        if name in self._files():
            module = importlib.import_module(f"{self.package}.{name}")
        elif name in self._entries():
            module = importlib.import_module(self._entries()[name].module)
        else:
            kind = self.package.rpartition(".")[2].removesuffix("s")
            known = ", ".join(self.names())
            raise RecipeError(f'unknown {kind} "{name}".{did_you_mean(name, self.names())} Known: {known}.')
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == module.__name__:
                value.name = name
                return value
        raise TypeError(f"{module.__name__} defines no {self.base.__name__}")

    def make(self, options: str | Mapping[str, Any]) -> P:
        """A plugin from its name, or from a mapping with `name` and its options flat beside it."""
        given = {"name": options} if isinstance(options, str) else dict(options)
        return self.get(str(given.pop("name", "")))(**given)

    def _files(self) -> dict[str, Path]:
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations
        folder = Path(next(iter(spec.submodule_search_locations)))
        skipped = ("base", "__init__")
        return {f.stem: f for f in folder.glob("*.py") if f.stem not in skipped and not f.stem.startswith("_")}

    def _entries(self) -> dict[str, Any]:
        return {entry.name: entry for entry in entry_points(group=self.package)}
