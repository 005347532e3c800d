"""Given settings to options: every fault found at once, each with its dotted path, its line and what to write instead.

pydantic checks strictly (a text is no number, `true` is no 1); what is done here first is only to read each scalar as
the kind that its place wants, to open the short forms, and to turn pydantic's messages into sentences.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.errors import Fault, RecipeError, did_you_mean
from tunesmith.plugin import Options, Plugin, Registry
from tunesmith.recipe.scalars import Written
from tunesmith.recipe.wanted import choices, members, shown, wanted

Built = TypeVar("Built", bound=Options)


class Validator:
    """Builds options and collects faults.

    registries: where plugins of a base class are found. short: the option that a bare word stands for
    (`data: reviews.csv`). lines: the line of each dotted path; 0 for one given on the command line.
    """

    def __init__(
        self,
        registries: Mapping[type[Plugin], Registry[Any]],
        short: Mapping[type[Options], str],
        lines: Mapping[str, int],
    ) -> None:
        self.registries = registries
        self.short = short
        self.lines = lines
        self.faults: list[Fault] = []

    def build(self, kind: type[Built], given: Mapping[str, Any], path: str = "") -> Built | None:
        """An instance of `kind`, or None when something in it is at fault."""
        before = len(self.faults)
        values: dict[str, Any] = {}
        for key, value in given.items():
            field = kind.model_fields.get(str(key))
            if field is None:
                self._unknown(str(key), kind, path)
                continue
            try:
                values[str(key)] = self._fit(value, field.annotation, _join(path, str(key)))
            except _Faulty:
                continue
        try:
            made = kind.model_validate(values, strict=True)
        except ValidationError as error:
            self._translate(error, kind, given, path)
            return None
        return made if len(self.faults) == before else None

    def add(self, path: str, message: str) -> None:
        """Note a fault, on the line of the nearest path that has one."""
        near = next((p for p in _upwards(path) if p in self.lines), None)
        line = self.lines[near] if near is not None else 0
        origin = " (given on the command line)" if near and line == 0 else ""
        self.faults.append(Fault(path, message + origin, line))

    def _fit(self, value: Any, annotation: Any, path: str) -> Any:
        """`value` read as what its place wants; _Faulty when a fault was noted on the way."""
        kinds = [kind for kind, _ in members(annotation)]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Options)), None)
        if section is not None and not isinstance(value, Options):
            return self._section(value, section, type(None) in kinds, path)
        if isinstance(value, Written):
            return _read(value, kinds, annotation)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and Path in kinds and str not in kinds:
            return Path(value)
        if isinstance(value, (list, tuple)):
            return self._list(value, kinds, path)
        if isinstance(value, Mapping):
            item = next((get_args(kind)[1] for kind in kinds if get_origin(kind) in (dict, Mapping)), Any)
            return {str(key): self._fit(each, item, _join(path, str(key))) for key, each in value.items()}
        if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
            return int(value)
        return value

    def _list(self, value: Sequence[Any], kinds: list[Any], path: str) -> Any:
        kind = next((k for k in kinds if get_origin(k) in (tuple, list, set, frozenset, Sequence)), None)
        item = get_args(kind)[0] if kind is not None else Any
        items = [self._fit(each, item, _join(path, str(place))) for place, each in enumerate(value)]
        return items if kind is None or get_origin(kind) in (list, Sequence) else get_origin(kind)(items)

    def _section(self, value: Any, kind: type[Options], optional: bool, path: str) -> Any:
        bare = value.text if isinstance(value, Written) and value.value is not None else value
        bare = os.fspath(bare) if isinstance(bare, os.PathLike) else bare
        if bare is None or isinstance(bare, Written):
            if optional:
                return None
            bare = {}  # `train:` with nothing under it
        plugin = issubclass(kind, Plugin)
        short = "name" if plugin else self.short.get(kind)
        if isinstance(bare, str) and short:
            bare = {short: bare}
        if not isinstance(bare, Mapping):
            way = f"a bare {short} or " if short else ""
            self.add(path, f"must be {way}settings of the form `key: value`; found {shown(bare)}")
            raise _Faulty
        made = self._plugin(bare, cast(type[Plugin], kind), path) if plugin else self.build(kind, bare, path)
        if made is None:
            raise _Faulty
        return made

    def _plugin(self, given: Mapping[str, Any], kind: type[Plugin], path: str) -> Plugin | None:
        registry = self.registries[kind]
        options = dict(given)
        name = options.pop("name", None)
        name = name.text if isinstance(name, Written) else name
        if not isinstance(name, str) or not name:
            self.add(path, f"needs a name; known: {', '.join(registry.names())}")
            return None
        try:
            found: type[Plugin] = registry.get(name)
        except RecipeError as error:
            self.add(path, str(error))
            return None
        return self.build(found, options, path)

    def _unknown(self, key: str, kind: type[Options], path: str) -> None:
        names = [*kind.model_fields, *(["name"] if issubclass(kind, Plugin) else [])]
        places = {} if path else self._elsewhere(kind)
        hint = "" if key in places else did_you_mean(key, names)
        if not hint:
            hint = next((f' Did you mean "{places[n]}"?' for n in places if f'"{n}"' in did_you_mean(key, places)), "")
        what = f'is not an option of "{kind.name}".' if issubclass(kind, Plugin) else "is not a known setting."
        known = f" Known here: {', '.join(names)}." if names else " It has no options."
        self.add(_join(path, key), f"{what}{hint or known}")

    def _elsewhere(self, kind: type[Options]) -> dict[str, str]:
        """Where each setting of a section stands: `epochs` at `train.epochs`; the plugins' options come last."""
        places: dict[str, str] = {}
        parts = [(name, part) for name, field in kind.model_fields.items() for part, _ in members(field.annotation)]
        for section, part in sorted(parts, key=lambda pair: pair[1] in self.registries):
            for found in self._classes(part):
                places.update((name, f"{section}.{name}") for name in found.model_fields if name not in places)
        return places

    def _classes(self, part: Any) -> list[type[Options]]:
        if not (isinstance(part, type) and issubclass(part, Options)):
            return []
        registry = self.registries.get(cast(type[Plugin], part))
        return [part] if registry is None else [registry.get(name) for name in registry.names()]

    def _translate(self, error: ValidationError, kind: type[Options], given: Mapping[str, Any], path: str) -> None:
        seen: set[str] = set()
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0]) if detail["loc"] else ""
            where = _join(path, key) if key else path
            noted = any(fault.path == where or fault.path.startswith(where + ".") for fault in self.faults) and key
            if key in seen or noted:
                continue
            seen.add(key)
            self.add(where, _sentence(detail, kind, key, given))


class _Faulty(Exception):
    """A nested part is at fault; its faults are noted."""


def _sentence(detail: ErrorDetails, kind: type[Options], key: str, given: Mapping[str, Any]) -> str:
    if detail["type"] in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    field = kind.model_fields.get(key)
    if field is None:
        return detail["msg"]
    if detail["type"] == "missing":
        example = (
            f"; write for example `{key}: {field.examples[0]}`" if field.examples else f"; it wants {wanted(field)}"
        )
        return f"is missing ({field.description}){example}" if field.description else f"is missing{example}"
    value = given.get(key)
    place = [step for step in detail["loc"][1:] if isinstance(step, int)]
    if place and isinstance(value, (list, tuple)):
        value = value[place[0]]
    found = value.text if isinstance(value, Written) else value
    item = f" (at item {place[0] + 1})" if place else ""
    known = choices(field.annotation)
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    if not place and value in known:
        hint = f" Write it as a list: [{value}]"
    return f"must be {wanted(field)}; found {shown(found) if not isinstance(value, Written) else found}{item}.{hint}"


def _read(value: Written, kinds: list[Any], annotation: Any) -> Any:
    """The written scalar as the kind that its place wants, else as what it means."""
    meant = value.value
    if type(meant) in kinds:
        return meant
    if isinstance(meant, int) and not isinstance(meant, bool) and float in kinds:
        return meant
    if str in kinds or value.text in choices(annotation):
        return value.text
    if isinstance(meant, float) and meant.is_integer() and int in kinds:
        return int(meant)
    return meant


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]
