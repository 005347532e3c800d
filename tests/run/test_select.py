"""Models are ranked by evidence on the person's data, and each reason is a measured one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pictures_models import tiny_vision_source
from tests.run.pictures import write_boxes, write_pictures

from tunesmith.errors import DataError, FolderInUseError, ModelError, RecipeError
from tunesmith.models.cards import ModelCard
from tunesmith.models.tokenizer_fit import tokenizer_fit
from tunesmith.run.folder import locked
from tunesmith.run.select import candidate, measured
from tunesmith.run.select.select import Limits, _against, select
from tunesmith.run.select.selection import Row, Selection
from tunesmith.types import Interval

WORDS = {"good": "great film good story", "bad": "dull plot bad end", "odd": "the actor was not very"}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Candidates are measured here instead of in a process each; gives the folders in their order."""
    seen: list[Path] = []

    def run(place: Path) -> None:
        seen.append(place)
        job = json.loads((place / candidate.JOB).read_text(encoding="utf-8"))
        try:
            result = candidate.measure(job, place)
        except ModelError as fault:
            result = {"fault": str(fault)}
        (place / candidate.RESULT).write_text(json.dumps(result), encoding="utf-8")

    monkeypatch.setattr(measured, "_run", run)
    return seen


def write_texts(path: Path, *, each: int = 20, labels: Callable[[str], str] = str) -> Path:
    draw = np.random.default_rng(0)
    rows = ["text,label"]
    for number in range(each):
        for label, words in WORDS.items():
            own = words.split()
            text = " ".join(
                [own[int(i)] for i in draw.integers(0, len(own), 5)] + ["abcdefghij"[number % 10], str(number)]
            )
            rows.append(f"{text},{labels(label)}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_text_models_are_ranked_with_every_reason(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    found = select("text_classification", str(write_texts(tmp_path / "data.csv")), rows=36, everywhere=False,
                   places=[str(tiny_folders("bert")), str(tiny_folders("llama"))],
                   settings=["data.columns.text=text"])  # fmt: skip
    assert found.examples == 36  # of the training part alone: 60 rows less validation and test
    assert len(found.rows) == 2
    first, second = found.rows
    assert first.probe.value >= second.probe.value
    assert first.behind is None
    assert second.behind is not None
    assert second.behind.value == pytest.approx(second.probe.value - first.probe.value)
    by_kind = {row.card.architecture: row for row in found.rows}
    assert set(by_kind["bert"].ways) == {"mean over tokens", "first token"}
    assert set(by_kind["llama"].ways) == {"mean over tokens", "last token"}
    for row in found.rows:
        assert row.probe.value > 0.8  # the words give the class away; chance is a third
        assert row.width == 32
        assert min(row.examples_a_second, row.answering_mib, row.training or 0, row.training_mib or 0) > 0
        assert row.tokenizer is not None
        assert row.parameters > 0
    told = "\n".join(found.lines())
    assert "linear probe accuracy" in told
    assert "splits a word into" in told
    assert f"--model {first.card.name} data.columns.text=text" in told
    assert json.loads(json.dumps(found.as_dict()))["rows"][0]["reasons"]


def test_pictures_are_measured_by_what_enters_the_head(tmp_path: Path, in_this_process: list[Path]) -> None:
    for kind in ("timm_resnet", "hf_vit"):
        tiny_vision_source(kind, tmp_path / "models" / kind)
    found = select("image_classification", str(write_pictures(tmp_path / "data")), rows=30, everywhere=False,
                   places=[str(tmp_path / "models")])  # fmt: skip
    assert {row.width for row in found.rows} == {32}
    assert all(row.tokenizer is None and list(row.ways) == ["what enters the head"] for row in found.rows)
    assert found.rows[0].probe.value > 0.8  # of three colours


def test_backbones_for_detection_are_compared_on_cut_out_objects(tmp_path: Path, in_this_process: list[Path]) -> None:
    tiny_vision_source("timm_resnet", tmp_path / "models" / "a")
    data = write_boxes(tmp_path / "data", pictures=40)
    found = select("object_detection", str(data), rows=40, everywhere=False, places=[str(tmp_path / "models")])
    assert (found.noun, found.score, found.classes) == ("object", "accuracy", 2)
    assert found.rows[0].probe.value > 0.7
    assert "cut out" in found.notes[0]
    with pytest.raises(RecipeError, match="have no use here"):
        select("object_detection", str(data), settings=["task.size=64"], places=[str(tmp_path / "models")])


def test_a_candidate_that_fails_is_named_with_its_reason_and_the_others_go_on(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    data = str(write_texts(tmp_path / "data.csv", each=8))
    broken = tmp_path / "models" / "nan"
    broken.mkdir(parents=True)
    for file in tiny_folders("bert").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, broken / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    found = select("text_classification", data, places=[str(broken), str(tiny_folders("bert"))], everywhere=False)
    assert [row.card.name for row in found.rows] == [str(tiny_folders("bert"))]
    assert [each.name for each in found.left_out] == [str(broken)]
    assert "not finite" in found.left_out[0].reason
    with pytest.raises(ModelError, match="not finite"):
        select("text_classification", data, places=[str(broken)], everywhere=False)


def test_what_was_measured_is_not_measured_again_unless_something_changed(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.5, 0.5))  # it is told, and moves between the two
    data, work = str(write_texts(tmp_path / "data.csv", each=8)), tmp_path / "work"

    def once(rows: int) -> Selection:
        return select("text_classification", data, places=[str(tiny_folders("bert"))], everywhere=False, rows=rows,
                      folder=work)  # fmt: skip

    first = once(15)
    again = once(15)
    assert len(in_this_process) == 1
    assert again == first
    once(12)
    assert len(in_this_process) == 2


def test_two_selections_do_not_work_in_one_folder(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    data, work = str(write_texts(tmp_path / "data.csv", each=8)), tmp_path / "work"
    work.mkdir()
    with locked(work), pytest.raises(FolderInUseError, match="--output"):
        select("text_classification", data, places=[str(tiny_folders("bert"))], everywhere=False, folder=work)
    assert {path.name for path in work.iterdir()} == {".lock"}, "rows of the other would be written over"
    assert not in_this_process


def test_settings_of_the_data_count_and_others_are_refused(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    path = write_texts(tmp_path / "data.csv", each=8)
    path.write_text(path.read_text().replace("text,label", "review,stars"))
    places = [str(tiny_folders("bert"))]
    settings = ["data.columns.text=review", "data.columns.label=stars", "task.max_length=8"]
    found = select("text_classification", str(path), settings=settings, places=places, everywhere=False)
    assert found.rows[0].tokenizer is not None
    assert found.rows[0].tokenizer.max_length == 8
    assert found.rows[0].tokenizer.cut > 0.5
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        select("text_classification", str(path), settings=["train.epochs=2"], places=places)
    with pytest.raises(RecipeError, match="--language"):
        select("image_classification", str(path), limits=Limits(language="en"), places=places)


def test_copies_are_not_measured_on_twice(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    path = write_texts(tmp_path / "data.csv", each=8)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *lines[1:]]))
    found = select("text_classification", str(path), settings=["data.split.test=0", "data.split.validation=0"],
                   places=[str(tiny_folders("bert"))], everywhere=False)  # fmt: skip
    assert found.examples == 24
    assert "24 copies" in found.notes[0]


@pytest.mark.slow
def test_several_labels_a_row_are_probed_by_micro_f1(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    path = write_texts(tmp_path / "data.csv", labels=lambda label: f"{label}|short" if label != "odd" else label)
    found = select("text_classification", str(path), settings=['data.label_separator="|"'], rows=40,
                   places=[str(tiny_folders("bert"))], everywhere=False)  # fmt: skip
    assert (found.score, found.chance, found.rows[0].h_score) == ("micro_f1", None, None)
    assert found.rows[0].probe.value > 0.8


def test_one_class_is_nothing_to_compare_on(tmp_path: Path, tiny_folders: Callable[[str], Path]) -> None:
    folder = tmp_path / "data"
    for label, rows in (("a", 12), ("b", 12)):
        (folder / label).mkdir(parents=True)
        for number in range(rows):
            (folder / label / f"{number}.txt").write_text(f"film {number}")
    with pytest.raises(DataError, match="at least 6"):
        select("text_classification", str(folder), settings=["data.limit=4"], places=[str(tiny_folders("bert"))])


def test_limits_filter_by_the_card_and_say_why() -> None:
    card = ModelCard("m", "m", "", "transformers", "bert", ("text_classification",), 22_000_000, "mit", ("en",))

    def told(**limits: Any) -> str | None:
        return _against(card, "text_classification", Limits(**limits))

    assert told() is None
    assert told(parameters=22_000_000, memory=2**30, language="en", licence="MIT License") is None
    assert told(parameters=21_999_999) == "22,000,000 parameters are more than --max-params 21,999,999"
    assert "84 MiB" in (told(memory=50 * 2**20) or "")
    assert told(licence="apache-2.0") == "its licence is mit, not apache-2.0"
    assert told(language="zh") == "its card names the languages en, not zh"
    assert "cannot be used for image_classification" in (_against(card, "image_classification", Limits()) or "")
    silent = replace(card, licence=None, languages=())
    assert _against(silent, "text_classification", Limits(licence="mit")) == "its licence is not known, not mit"
    assert _against(silent, "text_classification", Limits(language="zh")) is None


def row(name: str, probe: float, speed: float, behind: Interval | None = None) -> Row:
    card = ModelCard(name, name, "", "transformers", "bert", ("text_classification",), 1_000_000, "mit")
    return Row(card=card, parameters=1_000_000, probe=Interval(probe, probe - 0.02, probe + 0.02), ways={"mean": probe},
               scores={}, width=8, logme=-0.1, h_score=1.0, examples_a_second=speed, answering_mib=400.0, training=None,
               training_mib=None, remark="", tokenizer=None, behind=behind)  # fmt: skip


def test_a_faster_model_that_is_not_clearly_behind_is_recommended_beside_the_first() -> None:
    near, far = row("near", 0.91, 50, Interval(-0.01, -0.03, 0.01)), row("far", 0.5, 500, Interval(-0.4, -0.5, -0.3))
    made = Selection(
        "text_classification",
        "d",
        "accuracy",
        "text",
        100,
        2,
        0.5,
        (row("best", 0.92, 10), near, far),
        (),
        (),
        (),
        False,
    )
    told = "\n".join(made.lines())
    assert "near is not clearly behind and answers 5.0 times as fast" in told
    assert "not clearly behind the first (-0.010, between -0.030 and +0.010)" in told
    assert "behind the first (-0.400" in told
    assert "speeds were read on a busy machine" in "\n".join(replace(made, busy=True).lines())


def test_what_a_tokenizer_does_not_know_splits_and_cuts_is_counted(tiny_folders: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folders("bert"))
    fit = tokenizer_fit(tokenizer, ["good film abc", "电影"], [7, 4], 5)
    # good, film, a ##b ##c, and one unknown token: six for three words and two characters
    assert fit.pieces == pytest.approx(6 / 5)
    assert fit.unknown == pytest.approx(1 / 6)
    assert (fit.unit, fit.median, fit.longest, fit.cut) == ("word", 7, 7, 0.5)
    assert tokenizer_fit(tokenizer, ["电影好看 good"], [7], 8).unit == "character"
    assert fit.words()[0] == "splits a word into 1.2 pieces"
    assert "does not know 16.7% of the tokens" in fit.words()


@pytest.mark.slow
def test_a_candidate_in_a_process_of_its_own_gives_the_same_features(
    tmp_path: Path, tiny_folders: Callable[[str], Path]
) -> None:
    data = str(write_texts(tmp_path / "data.csv", each=6))
    found = select("text_classification", data, places=[str(tiny_folders("bert"))], everywhere=False)
    assert found.rows[0].answering_mib > 50


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system ends a child with its parent on Linux only")
def test_a_candidates_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, os, time\n"
        "inner = 'import sys, time; from tunesmith.run.select.candidate import _end_with; _end_with(int(sys.argv[1]));'"
        "'print(1, flush=True); time.sleep(60)'\n"
        "child = subprocess.Popen([sys.executable, '-c', inner, str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child outlived its parent")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_was_killed_is_told_with_its_signal(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("")
    assert "SIGKILL, most often for want of memory" in measured._why(-9, tmp_path / "log.txt")
    (tmp_path / "log.txt").write_text("Traceback\n  File\nValueError: what\n")
    assert measured._why(1, tmp_path / "log.txt") == "its process failed: ValueError: what"


def test_the_command_gives_json_alone_and_refuses_sizes_without_units(
    tmp_path: Path, tiny_folders: Callable[[str], Path], in_this_process: list[Path]
) -> None:
    import typer
    from typer.testing import CliRunner

    from tunesmith.cli_select import select as command

    app = typer.Typer()
    app.command()(command)
    data = str(write_texts(tmp_path / "data.csv", each=8))
    words = ["--data", data, "--from", str(tiny_folders("bert")), "--only-from", "--limit", "15"]
    words += ["--output", str(tmp_path / "kept")]
    done = CliRunner().invoke(app, [*words, "--json", "--max-params", "1M"])
    assert json.loads(done.stdout)["examples"] == 15
    assert "measuring 1 of 1" in done.stderr
    assert "probe accuracy" in CliRunner().invoke(app, words).stdout
    assert len(in_this_process) == 1  # the second time it was read from --output
    refused = CliRunner().invoke(app, [*words, "--memory", "8"]).exception
    assert isinstance(refused, RecipeError)
    assert "8GiB" in str(refused)
    too_large = CliRunner().invoke(app, [*words, "--max-params", "10"]).exception
    assert "more than --max-params 10" in str(too_large)
