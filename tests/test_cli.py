"""The commands as a person meets them: what is printed where, and the exit code."""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunesmith import cli, errors
from tunesmith.events import Begun, Evaluated, Stage, Step
from tunesmith.progress import Progress, Smoothed
from tunesmith.recipe.recipe import Recipe
from tunesmith.terminal import result_lines
from tunesmith.types import MainScore

BROKEN = Path(__file__).parents[1] / "../shared/data/broken"
CLASSES = {"good": ["great", "good", "lovely"], "bad": ["dull", "bad", "sad"]}


class Terminal:
    """Runs a command in this process; `code`, `out` and `err` are the last one's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *words: str) -> int:
        self.monkeypatch.setattr(sys, "argv", ["tunesmith", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        self.out, self.err = self.capsys.readouterr()
        self.code = left.value.code or 0
        assert isinstance(self.code, int)
        return self.code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TUNESMITH_DEBUG", raising=False)
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    rows = [f'"the film number {n} was {CLASSES[label][n % 3]}",{label}' for n in range(20) for label in CLASSES]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return path


def test_help_lists_every_command(run: Terminal) -> None:
    assert run("--help") == 0
    for command in ("inspect", "init", "check", "fit", "resume", "evaluate", "predict", "report", "methods", "tasks"):
        assert re.search(rf"│ {command} ", run.out), command


def test_every_command_explains_itself(run: Terminal) -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        assert run(command.name or command.callback.__name__, "--help") == 0
        assert "Usage: tunesmith" in run.out


def test_methods_and_tasks_are_listed_with_one_line_each(run: Terminal) -> None:
    assert run("methods") == 0
    lines = dict(line.split(maxsplit=1) for line in run.out.splitlines())
    assert {"lora", "full", "head", "bitfit", "ia3", "prefix_tuning"} <= set(lines)
    assert all(len(meaning) > 20 for meaning in lines.values())
    assert run("tasks") == 0
    assert re.search(r"^text_classification  +Text classification", run.out, re.MULTILINE)


def test_a_methods_page_is_its_docstring(run: Terminal) -> None:
    assert run("methods", "lora") == 0
    assert "## Source" in run.out
    assert "[outputs, inputs]" in run.out, "square brackets must not be taken for markup"


def test_an_unknown_method_is_met_with_a_suggestion(run: Terminal) -> None:
    assert run("methods", "loar") == 2
    assert 'Did you mean "lora"?' in run.err
    assert run.out == ""


def test_init_into_a_folder_that_is_not_there_says_so(run: Terminal) -> None:
    assert run("init", "--output", "nowhere/new.yaml") == 74
    assert "nowhere/new.yaml cannot be written" in run.err


def test_init_writes_a_recipe_that_check_can_read(run: Terminal) -> None:
    words = ("init", "text_classification", "--model", "m", "--data", "d.csv", "--method", "bitfit")
    assert run(*words, "--output", "new.yaml") == 0
    assert Recipe.read("new.yaml").as_dict()["method"]["name"] == "bitfit"
    assert run(*words, "--output", "new.yaml") == 2
    assert "exists already" in run.err
    assert run(*words) == 0
    assert run.out == Path("new.yaml").read_text(encoding="utf-8")


def test_schema_is_json_and_nothing_else(run: Terminal) -> None:
    assert run("schema") == 0
    assert json.loads(run.out)["title"] == "tunesmith recipe"


def test_all_faults_of_a_recipe_are_one_block_on_standard_error(run: Terminal) -> None:
    Path("r.yaml").write_text("task: text_classification\nmodle: m\ndata: d\ntrain: {epochs: 0}\n")
    assert run("fit", "r.yaml", "method.rnk=3") == 2
    assert run.out == ""
    assert run.err.splitlines()[0] == "the recipe or the command line is not right"
    assert 'r.yaml:2: modle: is not a known setting. Did you mean "model"?' in run.err
    assert "r.yaml:4: train.epochs: must be a number above 0" in run.err
    assert 'Did you mean "rank"? (given on the command line)' in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize("words", [("bogus",), ("fit", "--bogus"), ("report",), ("inspect",)])
def test_wrong_usage_ends_with_exit_code_2(run: Terminal, words: tuple[str, ...]) -> None:
    assert run(*words) == 2
    assert "Usage:" in run.err


def test_the_command_line_means_one_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "task: text_classification\nmodel: m\ndata: {path: d.csv, limit: 9}\nmethod: {name: lora, rank: 2}\n"
    )
    flags: dict[str, str | None] = {"task": None, "model": None, "data": "e.csv", "method": None, "output": "here"}
    recipe = cli._recipe([str(file), "train.epochs=1"], **flags)
    assert recipe.data.path == "e.csv"
    assert recipe.data.limit == 9
    assert recipe.output == "here"
    assert recipe.train.epochs == 1
    assert recipe.as_dict()["method"]["rank"] == 2
    alone = cli._recipe(["method.rank=3"], task="text_classification", model="m", data="d.csv", method="lora")
    assert alone.as_dict()["method"]["rank"] == 3


def test_inspect_shows_rows_and_classes(run: Terminal, reviews: Path) -> None:
    assert run("inspect", str(reviews)) == 0
    assert "40 read = 40 used + 0 quarantined + 0 blank" in run.out
    assert run("inspect", str(reviews), "--json") == 0
    assert json.loads(run.out)["used"] == 40
    assert run("inspect", str(reviews), "data.columns.text=txet") == 2
    assert "Traceback" not in run.err


def test_inspect_says_where_quarantined_rows_lie(run: Terminal, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write("no label,\n")
    assert run("inspect", str(reviews), "data.max_bad_share=0.5") == 0
    assert "1 quarantined" in run.out
    kept = Path(run.err.rpartition(" in ")[2].strip())
    assert json.loads(kept.read_text(encoding="utf-8"))["line"] == 42


@pytest.mark.skipif(not BROKEN.is_dir(), reason="shared/data/broken is not beside the checkout")
@pytest.mark.parametrize("name", sorted(f.name for f in (BROKEN / "text").glob("*.*")) if BROKEN.is_dir() else ["none"])
def test_every_broken_text_file_is_inspected_or_refused_in_words(run: Terminal, name: str) -> None:
    assert run("inspect", str(BROKEN / "text" / name)) in (0, 2)
    assert (run.out if run.code == 0 else run.err).strip()
    assert "Traceback" not in run.err


@pytest.mark.skipif(not BROKEN.is_dir(), reason="shared/data/broken is not beside the checkout")
@pytest.mark.parametrize("name", sorted(f.name for f in (BROKEN / "config").glob("*")) if BROKEN.is_dir() else ["none"])
def test_every_broken_recipe_ends_with_exit_code_2_and_leaves_nothing(run: Terminal, name: str, tmp_path: Path) -> None:
    assert run("fit", str(BROKEN / "config" / name)) == 2
    assert name in run.err
    assert "Traceback" not in run.err
    assert list(Path().iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.RecipeError("x"), 2),
        (errors.DataError("x"), 2),
        (errors.ModelError("x"), 2),
        (errors.RunError("x"), 2),
        (errors.FolderInUseError("x"), 73),
        (errors.DiskError("x"), 74),
        (errors.InterruptedRun("saved at step [3]"), 75),
        (errors.NotFiniteError("x"), 76),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device"), 74),
        (RuntimeError("odd"), 70),
        (AssertionError(), 70),
        (type("PanicException", (BaseException,), {})("index out of range"), 70),  # as libraries in Rust have it
    ],
)
def test_each_kind_of_fault_has_its_exit_code_and_no_traceback(
    run: Terminal, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int
) -> None:
    def broken(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("tunesmith.terminal.show_plugins", broken)
    assert run("methods") == code
    assert "Traceback" not in run.err
    if str(fault) and code not in (130, 74):
        assert str(fault) in run.err


def test_a_crash_leaves_its_traceback_in_a_file(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("odd [thing]")

    monkeypatch.setattr("tunesmith.terminal.show_plugins", broken)
    assert run("methods") == 70
    found = re.search(r"The details are in (\S+);", run.err)
    assert found is not None
    file = Path(found[1])
    assert "RuntimeError: odd [thing]" in file.read_text(encoding="utf-8")
    assert "Traceback" in file.read_text(encoding="utf-8")
    monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    assert run("methods") == 70
    assert "Traceback" in run.err


@pytest.fixture(scope="module")
def finished(tiny_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps on a tiny model."""
    from tunesmith.run.fit import fit

    root = tmp_path_factory.mktemp("finished")
    rows = [f"a {CLASSES[label][n % 3]} film {n},{label}" for n in range(40) for label in CLASSES]
    (root / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    settings = ["task=text_classification", f"model={tiny_folders('bert')}", f"data.path={root / 'reviews.csv'}"]
    return fit(Recipe.read(None, *settings, "train.steps=3", "train.batch_size=8"), root / "run").folder


def test_predict_answers_words_lines_and_files(
    run: Terminal, finished: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("predict", str(finished), "a good film", "a sad film") == 0
    assert [line.split("\t")[1] for line in run.out.splitlines()] == ["a good film", "a sad film"]
    assert run("predict", str(finished), "a good film", "--json") == 0
    answer = json.loads(run.out)
    assert answer["predicted"] in CLASSES
    assert set(answer["probabilities"]) == set(CLASSES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)  # six decimals are written

    monkeypatch.setattr(sys, "stdin", io.StringIO("a good film\n\nlast"))
    assert run("predict", str(finished), "--json") == 0
    assert [json.loads(line)["text"] for line in run.out.splitlines()] == ["a good film", "", "last"]

    assert run("predict", str(finished), "--file", str(reviews), "--output", "answers.jsonl") == 0
    assert run.out == ""
    written = [json.loads(line) for line in Path("answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(written) == 40
    assert {answer["label"] for answer in written} == set(CLASSES)


def test_predict_refuses_texts_beside_a_file_and_a_folder_that_is_no_run(run: Terminal, finished: Path) -> None:
    assert run("predict", str(finished), "text", "--file", "x.csv") == 2
    assert "not both" in run.err
    assert run("predict", "nowhere", "text") == 2
    assert "not a run folder" in run.err
    assert run("predict", str(finished), "text", "--output", "no/such/folder.jsonl") == 74
    assert "cannot write no/such/folder.jsonl" in run.err


def test_evaluate_scores_new_data_with_an_interval(run: Terminal, finished: Path, reviews: Path) -> None:
    assert run("evaluate", str(finished), "--data", str(reviews), "--json") == 0
    found = json.loads(run.out)
    assert found["examples"] == 40
    assert found["interval"][0] <= found["scores"]["accuracy"] <= found["interval"][1]
    assert run("predict", str(finished), "--file", str(reviews), "--json") == 0
    answers = [json.loads(line) for line in run.out.splitlines()]
    right = sum(answer["label"] == answer["predicted"] for answer in answers)
    assert found["scores"]["accuracy"] == pytest.approx(right / 40)
    assert run("evaluate", str(finished), "--data", str(reviews)) == 0
    assert run.out.startswith(f"accuracy {right / 40:.3f}  (95 % interval ")


def test_evaluate_takes_settings_for_the_new_data(run: Terminal, finished: Path) -> None:
    Path("new.csv").write_text("id_of,what,verdict\n1,a good film,good\n2,a sad film,bad\n", encoding="utf-8")
    columns = ("data.columns.text=what", "data.columns.label=verdict")
    assert run("evaluate", str(finished), "--data", "new.csv", *columns, "--json") == 0
    assert json.loads(run.out)["examples"] == 2


def test_evaluate_names_a_label_that_the_run_never_learned(run: Terminal, finished: Path) -> None:
    Path("new.csv").write_text("text,label\na good film,good\na sad film,bda\n", encoding="utf-8")
    assert run("evaluate", str(finished), "--data", "new.csv") == 2
    assert 'new.csv:3: the label "bda" is none that this run learned. Did you mean "bad"?' in run.err
    Path("none.csv").write_text("text\na good film\na sad film\n", encoding="utf-8")
    assert run("evaluate", str(finished), "--data", "none.csv") == 2
    assert "no row has a label" in run.err


def test_resuming_a_finished_run_says_so_and_shows_its_scores(run: Terminal, finished: Path) -> None:
    assert run("resume", str(finished)) == 0
    assert "finished already" in run.out
    assert "untouched model  accuracy" in run.out
    assert "fine-tuned       accuracy" in run.out
    assert f"report      {finished}/report.html" in run.out


def test_report_writes_the_page_anew(run: Terminal, finished: Path) -> None:
    (finished / "report.html").unlink()
    assert run("report", str(finished)) == 0
    assert run.out.strip() == str(finished / "report.html")
    assert (finished / "report.html").is_file()


def test_fit_shows_before_after_and_where_everything_lies(
    run: Terminal, tiny_folders: Callable[[str], Path], reviews: Path
) -> None:
    words = ("--task", "text_classification", "--model", str(tiny_folders("bert")), "--data", str(reviews))
    assert run("fit", *words, "--method", "head", "--output", "out", "train.steps=2", "train.batch_size=8") == 0
    lines = run.out.splitlines()
    places = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in (
        "untouched model", "step 1/2", "step 2  validation", "fine-tuned", "report      out/report.html")]  # fmt: skip
    assert places == sorted(places)
    assert run("fit", *words, "--output", "out") == 2
    assert "holds a run already" in run.err


def test_check_ends_well_without_training(run: Terminal, tiny_folders: Callable[[str], Path], reviews: Path) -> None:
    words = ("--task", "text_classification", "--model", str(tiny_folders("bert")), "--data", str(reviews))
    assert run("check", *words) == 0
    assert "what learns" in run.out
    assert list(Path().iterdir()) == []


def step(number: int, loss: float) -> Step:
    return Step(number, number / 10, loss, 1e-3, 1.0, 32, 400, 0.5)


BEGUN = Begun(Path("runs/x"), 20, 0, {"accuracy": 0.5}, MainScore("accuracy", "higher"), ("ok  all tensors move",))


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress(Stage("reading [the] data"))
        progress(BEGUN)
        for number in range(1, 21):
            progress(step(number, 1 / number))
        progress(Evaluated(20, {"accuracy": 0.875, "f1/good": 0.5}, True, 0.1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "reading [the] data",
        "ok  all tensors move",
        "untouched model  accuracy 0.500",
        "run folder  runs/x",
    ]
    assert lines[4].startswith("step 1/20  epoch 0.10  loss 1.0000  learning rate 0.001  64 examples/s  0:10 left")
    assert lines[5].startswith("step 20/20")
    assert lines[6:] == ["step 20  validation  accuracy 0.8750  best so far"]


def test_progress_in_a_terminal_is_a_live_bar_with_loss_rate_and_time_left() -> None:
    console = Console(force_terminal=True, width=120, record=True, file=io.StringIO())
    with Progress(console) as progress:
        progress(BEGUN)
        for number in range(1, 11):
            progress(step(number, 1.0))
        progress(Evaluated(10, {"accuracy": 0.5}, False, 0.1))
    shown = console.export_text()
    assert "10/20" in shown
    assert "loss 1.0000" in shown
    assert "rate 0.001" in shown
    assert "64 examples/s" in shown
    assert "0:05 left" in shown
    assert "step 10  validation  accuracy 0.5000" in shown


def test_the_smoothed_loss_starts_at_the_first_value_and_follows() -> None:
    mean = Smoothed(0.9)
    mean.add(2.0)
    assert mean.value == pytest.approx(2.0)
    for _ in range(100):
        mean.add(1.0)
    assert mean.value == pytest.approx(1.0, abs=1e-4)


def test_the_result_shows_before_and_after_with_intervals() -> None:
    scores = {
        "main_score": {"name": "accuracy", "better": "higher"},
        "before": {"accuracy": 0.5},
        "after": {"accuracy": 0.9},
        "intervals": {"before": {"accuracy": [0.45, 0.55]}, "after": {"accuracy": [0.85, 0.94]}},
        "difference": {"accuracy": [0.4, 0.35, 0.45]},
    }
    assert result_lines(scores) == [
        "untouched model  accuracy 0.500  (95 % interval 0.450 to 0.550)",
        "fine-tuned       accuracy 0.900  (95 % interval 0.850 to 0.940)",
        "difference       +0.400  (95 % interval +0.350 to +0.450)",
    ]


def test_a_change_that_is_not_known_is_told_as_such() -> None:
    old = {
        "main_score": {"name": "ap"},
        "before": {"ap": -1.0},
        "after": {"ap": -1.0},
        "forgetting": {"initial_minus_last": [float("nan")] * 3},
    }
    scores = {
        "main_score": {"name": "ap", "better": "higher"},
        "before": {"ap": -1.0},
        "after": {"ap": -1.0},
        "difference": {"ap": [float("nan")] * 3},
        "old_tasks": {"cells": old},
    }
    shown = "\n".join(result_lines(scores))
    assert "nan" not in shown
    assert "not known: cells, ap nothing to score before, nothing to score after" in shown
    assert "-1.000" not in shown
