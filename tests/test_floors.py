"""The plan's floors hold: imports go down, plugins stay apart, files stay short and honestly named."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src"
PLUGIN_FLOOR = 3
PLUGIN_ROOMS = ("tasks", "methods", "data.readers", "data.box_readers", "retention")
LONGEST_FILE = 250
LONGEST_COMMAND = 15
PRINTERS = ("cli.py", "cli_lists.py", "terminal.py")
FORBIDDEN_NAMES = ("utils", "common", "helpers", "misc", "manager")


def floors() -> dict[str, int]:
    """Room -> floor, from the table in docs/design.md."""
    text = (PROJECT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text.split("## Floors", 1)[1].split("\n## ", 1)[0]
    table: dict[str, int] = {}
    for line in section.splitlines():
        if found := re.match(r" {4}(\d)  (.*)", line):
            rooms = itertools.takewhile(lambda word: word.endswith(("/", ".py")), found[2].split())
            table.update((each.rstrip("/").removesuffix(".py"), int(found[1])) for each in rooms)
    return {**table, "__main__": table["cli"]}


def sources() -> dict[str, str]:
    """Module name -> its source, for every module of ours."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = file.read_text(encoding="utf-8")
    return found


def imports(module: str, source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Our own modules that a module imports: anywhere in it, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tunesmith")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: len(module.split(".")) - node.level]
                base = ".".join([*package, *([base] if base else [])])
            if base.split(".")[0] == "tunesmith":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in known else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            target = node.args[0].value
            if name in ("import_module", "__import__") and str(target).startswith("tunesmith."):
                yield str(target)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def plugin_room(module: str) -> str | None:
    """The plugin room that a plugin file stands in; None for any other module (a base, a `_file`, the package)."""
    package, _, name = module.removeprefix("tunesmith.").rpartition(".")
    is_plugin = package in PLUGIN_ROOMS and name != "base" and not name.startswith("_")
    return package if is_plugin else None


def faults(modules: Mapping[str, str], table: Mapping[str, int]) -> list[str]:
    """Everything that breaks the floors, in words."""
    found = []
    graph = {name: sorted(set(imports(name, source, modules)) - {name}) for name, source in modules.items()}
    for name, targets in graph.items():
        if room(name) not in table:
            found.append(f"{name}: docs/design.md gives {room(name)} no floor")
            continue
        for target in targets:
            here, there = table[room(name)], table.get(room(target), 0)
            if there > here:
                found.append(f"{name} imports {target}: up from floor {here} to floor {there}")
            elif there == here == PLUGIN_FLOOR and room(name) != room(target):
                found.append(f"{name} imports {target}: rooms on the plugin floor stay apart")
            elif plugin_room(name) and plugin_room(target):
                found.append(f"{name} imports {target}: a plugin imports a plugin")
    return found + [f"a circle: {' -> '.join(circle)}" for circle in circles(graph)]


def circles(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """One way round for each circle of imports (depth first)."""
    done: set[str] = set()
    found = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in graph.get(name, []):
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_imports_go_down_the_floors_and_plugins_stay_apart() -> None:
    assert faults(sources(), floors()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tunesmith.types", "from tunesmith.run.fit import fit"),
        ("tunesmith.models.source", "def f():\n    from tunesmith.recipe.recipe import Recipe"),
        ("tunesmith.train.loop", "if TYPE_CHECKING:\n    import tunesmith.evaluate"),
        ("tunesmith.metrics.interval", "import_module('tunesmith.data.split')"),
        ("tunesmith.methods.dora", "from tunesmith.methods.lora import LoRA"),
        ("tunesmith.methods.dora", "from tunesmith.methods import lora"),
        ("tunesmith.methods.dora", "from .lora import LoRA"),
        ("tunesmith.tasks.tagging", "from tunesmith.methods.base import Method"),
        ("tunesmith.data.readers.tsv", "from tunesmith.data.readers.csv import CSV"),
        ("tunesmith.errors", "from tunesmith.types import Step"),
        ("tunesmith.cellar.wine", ""),
    ],
)
def test_the_floor_check_finds_each_kind_of_fault(module: str, source: str) -> None:
    house = {
        "tunesmith.types": "from tunesmith.errors import TunesmithError",
        "tunesmith.run.fit": "",
        "tunesmith.recipe.recipe": "",
        "tunesmith.evaluate": "",
        "tunesmith.data.split": "",
        "tunesmith.methods.base": "",
        "tunesmith.methods.lora": "from tunesmith.methods import base, _peft",
        "tunesmith.methods._peft": "from tunesmith.types import Step",
        "tunesmith.data.readers.csv": "from tunesmith.data.split import split",
    }
    assert faults(house, floors()) == []
    assert faults({**house, module: source}, floors()) != []


def test_no_file_is_longer_than_it_should_be() -> None:
    lengths = {f.relative_to(SOURCE): f.read_text("utf-8").count("\n") for f in SOURCE.rglob("*.py")}
    assert {str(f): n for f, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    names = {path.stem for path in SOURCE.rglob("*") if path.suffix in ("", ".py")}
    assert not names & set(FORBIDDEN_NAMES)


def test_only_the_command_line_prints() -> None:
    printing = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printing.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert [place for place in printing if Path(place.partition(":")[0]).name not in PRINTERS] == []


def test_every_command_is_a_short_function() -> None:
    long = {}
    trees = [
        ast.parse((SOURCE / "tunesmith" / name).read_text(encoding="utf-8")) for name in ("cli.py", "cli_lists.py")
    ]
    for node in [node for tree in trees for node in tree.body]:
        if isinstance(node, ast.FunctionDef) and (node.decorator_list or node.name in ("methods", "tasks", "schema")):
            body = node.body[1:]  # without the docstring
            lines = body[-1].end_lineno - body[0].lineno + 1  # type: ignore[operator]
            if lines > LONGEST_COMMAND:
                long[node.name] = lines
    assert long == {}


def test_nothing_reads_pickles_or_runs_a_models_own_code() -> None:
    for name, source in sources().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "dill", "joblib"}, name
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                owner = ast.unparse(node.func).partition(".")[0]
                told = {keyword.arg for keyword in node.keywords}
                assert owner == "PeftModel" or "trust_remote_code" in told, f"{name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("weights_only") == "True", name
