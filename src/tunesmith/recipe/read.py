"""YAML as recipes use it: a strict subset with a line number for every value.

What is read is YAML 1.2's core schema without tags: only `true` and `false` are booleans (`no` is a word), `1e-4` is a
number, `012` is twelve, `12:30` and `2024-01-01` are words. Every scalar keeps its written text beside its value, so
that a place that wants a word (a label) gets exactly what was written. Anchors and merge keys work. Tags, duplicate
keys, deep or huge documents and alias bombs are refused, each with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from tunesmith.errors import Fault, RecipeError
from tunesmith.recipe.scalars import Written, plain, scalar

MAX_BYTES = 2**22
MAX_NODES = 50_000
"""A weight for each of many classes still fits in."""
MAX_DEPTH = 100


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file, and the 1-based line of every dotted path (list items as `labels.0`).

    RecipeError when the file cannot be read or is not a mapping of the kind described above.
    """
    mapping, lines = read_written(path)
    return plain(mapping), lines


def read_written(path: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """As `read_yaml`, with numbers, booleans and nulls as Written."""
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe: {error.strerror or error}", file=name) from error
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"is larger than {MAX_BYTES:,} bytes; a recipe is a page of settings, not data", file=name)
    value, lines = parse(_decode(raw, name), file=name)
    if isinstance(value, Written) and value.value is None:
        raise RecipeError("is empty; the least that works is task, model and data, one on a line", file=name)
    if not isinstance(value, dict):
        found = "a list" if isinstance(value, list) else "a single value"
        fault = Fault("", f"holds {found}; a recipe is settings of the form `key: value`", lines.get("", 1))
        raise RecipeError([fault], file=name)
    return value, lines


def parse(text: str, *, file: str = "") -> tuple[Any, dict[str, int]]:
    """The value of one YAML document and the line of each dotted path in it (the root's path is "")."""
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_syntax_fault(error, text)], file=file) from error
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position if isinstance(position, int) else 0) + 1
        fault = Fault("", "holds a control character that YAML does not allow; remove it", line)
        raise RecipeError([fault], file=file) from error
    if node is None:
        return Written(None, ""), {}
    builder = _Builder(file)
    value = builder.build(node, "", 0)
    if builder.faults:
        raise RecipeError(builder.faults, file=file)
    return value, builder.lines


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """YAML text to nodes: composing makes no objects, so no tag can run anything. Bounded in depth and in nodes."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        if self._nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=event.start_mark)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            problem = f"the tag {tag!r} is not allowed; a recipe holds plain words, numbers, lists and settings only"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and tag is not None:
            node.style = node.style or "!"  # `!!str 12` is a word, as if quoted
        self._depth -= 1
        return node


class _Builder:
    """Nodes to values, counting as it goes: aliases are expanded here, so a bomb ends at the limit."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []
        self._count = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            limit = f"{MAX_NODES:,} values" if self._count > MAX_NODES else f"{MAX_DEPTH} levels"
            problem = f"aliases expand to more than {limit}; write the few settings that are meant"
            raise RecipeError([Fault("", problem, line)], file=self.file)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, _join(path, str(i)), depth + 1) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if node.style:
            return node.value
        try:
            return scalar(node.value)
        except ValueError as error:
            self.faults.append(Fault(path, str(error), line))
            return node.value

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        first: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.faults.append(Fault(path, "a setting's name is a single word, not a list or a mapping", line))
                continue
            if key.value in first:
                message = f"is set twice, first on line {first[key.value]}; keep one of the two"
                self.faults.append(Fault(_join(path, key.value), message, line))
                continue
            first[key.value] = line
            if key.value == "<<" and not key.style:
                merged += item.value if isinstance(item, yaml.SequenceNode) else [item]
                continue
            self.lines[_join(path, key.value)] = line
            own[key.value] = self.build(item, _join(path, key.value), depth + 1)
        for source in merged:
            value = self.build(source, path, depth + 1)
            if isinstance(value, dict):
                own = {**value, **own}
            else:
                self.faults.append(Fault(path, "`<<` merges settings, so it needs a mapping", node.start_mark.line + 1))
        return own


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _decode(raw: bytes, name: str) -> str:
    """Text of a recipe file: UTF-8, or UTF-16 and UTF-32 told by their mark or by where the zero bytes are."""
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((marks[mark] for mark in marks if raw.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and len(raw) > 1 and 0 in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = Fault("", f"byte {error.start} is not {encoding.removesuffix('-sig')}; save the file as UTF-8", line)
        raise RecipeError([fault], file=name) from error


def _syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    lines = text.splitlines()
    written = lines[number] if number < len(lines) else ""
    problem = error.problem or "not YAML"
    if "'\\t'" in problem or written.startswith("\t"):
        problem = "is indented with a tab; YAML wants spaces"
    elif "expected a single document" in (error.context or ""):
        problem = "holds a second document after `---`; a recipe file holds one"
    elif "mapping values are not allowed" in problem:
        problem = "has a colon where a value was expected; quote a text that holds `: `, and check the indentation"
    else:
        problem = f"{problem} ({error.context})" if error.context else problem
    return Fault("", problem, number + 1)
