"""The page: what it says, that foreign text cannot disturb it, that it stands alone."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run.sample import write_json, write_lines, write_run

from tunesmith.errors import RunError
from tunesmith.run.folder import open_run
from tunesmith.run.report import context, write_report
from tunesmith.run.report_parts import forgotten, words
from tunesmith.run.report_parts.charts import Line, line_chart, smooth, thin, ticks
from tunesmith.run.report_parts.facts import read_facts

VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """The page's text and tags; fails on tags that do not close in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def report(folder: Path) -> tuple[Page, str]:
    source = write_report(folder).read_text(encoding="utf-8")
    return Page(source), source


def prediction(**changes: Any) -> dict[str, Any]:
    row = {
        "text": "a",
        "label": "positive",
        "predicted": "negative",
        "probabilities": [0.9, 0.06, 0.04],
        "file": "f",
        "line": 2,
    }
    return row | changes


def test_the_headline_says_in_plain_words_what_changed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "tweets")
    scores = json.loads((folder / "scores.json").read_text())
    page, _ = report(folder)
    text = " ".join(page.text.split())
    low, high = scores["intervals"]["after"]["accuracy"]
    assert f"Accuracy {scores['before']['accuracy']:.3f} → {scores['after']['accuracy']:.3f}" in text
    assert f"on 400 held-out examples (95 % interval {low:.3f}–{high:.3f})" in text
    assert f"Better: +{scores['difference']['accuracy'][0]:.3f}" in text
    for told in ("297 K", "1.3 % of 23 M", "1 min 14 s", "1.16 GiB", "1.27 MiB", "the adapter alone"):
        assert told in text


def test_every_section_of_a_finished_run_is_there(tmp_path: Path) -> None:
    page, _ = report(write_run(tmp_path / "run"))
    sections = (
        "Before and after",
        "How it learned",
        "What is taken for what",
        "Class by class",
        "Does it know how sure it is?",
        "Worst mistakes",
        "The data",
        "How to repeat it",
    )
    for title in sections:
        assert title in page.text
    assert "What was forgotten" not in page.text
    assert "not finished" not in page.text
    for told in ("train.learning_rate", "auto: lora's peak rate 2e-3", "4,141 rows were read", "7 texts occur with"):
        assert told in page.text


def test_classes_that_the_model_knew_are_told_from_new_ones(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    page, _ = report(folder)
    assert "known before" not in page.text, "nothing is told apart where all classes are new"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"known_labels": ["neutral"]}))
    found = context(read_facts(folder))
    by_label = {row["label"]: row for row in found["classes"]}
    (known, one, before, after), (new, two, _, mean) = found["old_and_new"]
    assert (known, one, new, two) == ("known before", 1, "new", 2)
    assert (before, after) == (by_label["neutral"]["before"], by_label["neutral"]["after"])
    assert mean == pytest.approx((by_label["negative"]["after"] + by_label["positive"]["after"]) / 2)
    page, _ = report(folder)
    assert page.text.count("known before") == 2
    (folder / "manifest.json").write_text(json.dumps(manifest | {"known_labels": ["negative", "neutral", "positive"]}))
    assert context(read_facts(folder))["old_and_new"] == []


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page, source = report(write_run(tmp_path / "run"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not {"src", "href", "xlink:href", "srcset"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", source)
    policy = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme: dark" in source


def test_pictures_speak_and_tables_have_headers(tmp_path: Path) -> None:
    page, _ = report(write_run(tmp_path / "run"))
    pictures = [a for tag, a in page.tags if tag == "svg"]
    assert len(pictures) >= 10
    assert all(a.get("role") == "img" and a.get("aria-label") for a in pictures)
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags


def test_markup_in_texts_labels_and_settings_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    labels = (evil, '"><img src=x onerror=alert(1)>', "{{ 7*7 }}")
    folder = write_run(tmp_path / "<b>run</b>", labels)
    rows = [prediction(text=evil, label=labels[1], predicted=labels[0], text_pair="</bdi><iframe>", file="<i>.csv")]
    write_lines(folder / "predictions" / "test_after.jsonl", rows)
    write_lines(folder / "quarantine.jsonl", [{"file": evil, "line": 1, "reason": "<u>", "raw": {"text": evil}}])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["origins"]["model.name"] = evil
    manifest["data"]["summary"]["notes"] = [evil]
    manifest["data"]["summary"]["files"][0][evil] = evil
    write_json(folder / "manifest.json", manifest)
    page, source = report(folder)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "i-", "u"}
    assert "<script" not in source
    assert page.text.count(evil) >= 6
    assert "{{ 7*7 }}" in page.text


def test_hidden_and_turning_characters_are_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    text = "pay \u202egnp.exe\u2066 now\x00\x1b[31m\u200b\n\ud800 end مرحبا 你好 👩\u200d🚀"
    row = json.dumps(prediction(text=text, label="positive", predicted="negative"))
    (folder / "predictions" / "test_after.jsonl").write_text(row + "\n", encoding="utf-8")
    page, source = report(folder)
    assert (
        "pay ⟨U+202E⟩gnp.exe⟨U+2066⟩ now⟨U+0000⟩⟨U+001B⟩[31m⟨U+200B⟩ ⏎ ⟨U+D800⟩ end مرحبا 你好 👩\u200d🚀" in page.text
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", source)
    assert '<bdi dir="auto">pay' in source


def test_long_text_is_cut_with_the_count_that_is_left(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_lines(folder / "predictions" / "test_after.jsonl", [prediction(text="x" * 5000)])
    page, _ = report(folder)
    assert "x" * 400 + " … (4,600 more characters)" in page.text
    assert "x" * 401 not in page.text


def test_the_worst_mistakes_are_the_surest_wrong_answers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rows = [
        prediction(text="wrong and unsure", probabilities=[0.5, 0.1, 0.4]),
        prediction(text="right and sure", label="negative", probabilities=[0.999, 0.0005, 0.0005]),
        prediction(text="wrong and sure", probabilities=[0.98, 0.01, 0.01]),
    ]
    write_lines(folder / "predictions" / "test_after.jsonl", rows)
    page, _ = report(folder)
    assert "right and sure" not in page.text
    assert page.text.index("wrong and sure") < page.text.index("wrong and unsure")


def test_seventy_seven_classes_give_pairs_instead_of_a_matrix(tmp_path: Path) -> None:
    labels = tuple(f"intent_{i:02d}" for i in range(77))
    folder = write_run(tmp_path / "banking", labels, examples=1500, steps=5000, skill=3.0)
    page, source = report(folder)
    assert "77 classes are too many for one picture" in page.text
    assert 'class="matrix' not in source
    assert "The other 57 classes" in page.text
    assert all(label in page.text for label in labels)
    assert len(source) < 150_000  # 5,000 steps are thinned
    pairs = re.search(r"of the class</th>.*?</table>", source, re.DOTALL)
    assert pairs is not None
    assert pairs.group().count("<tr>") == 15


def test_a_small_matrix_holds_every_count(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    names = ("negative", "neutral", "positive")
    counts = {("negative", "negative"): 5, ("negative", "neutral"): 3, ("positive", "positive"): 4}
    rows = [prediction(label=t, predicted=s) for (t, s), n in counts.items() for _ in range(n)]
    write_lines(folder / "predictions" / "test_after.jsonl", rows)
    _, source = report(folder)
    matrix = re.search(r'<table class="matrix few">.*?</table>', source, re.DOTALL)
    assert matrix is not None
    cells = [c.partition("<")[0] for c in re.findall(r"<td class=\"[rw][^>]*>(.*?)</td>", matrix.group())]
    expected = [str(counts.get((t, s), 0) or "·") for t in names for s in names]
    assert cells == expected


def test_a_run_in_progress_shows_what_there_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False, steps=40)
    with (folder / "events.jsonl").open("a") as stream:
        stream.write('{"event": "step", "st')  # cut off in the middle of a write
    page, _ = report(folder)
    assert "This run is not finished" in page.text
    assert "40 steps so far" in page.text
    assert "events.jsonl: 1 line could not be read" in page.text
    for absent in ("Before and after", "Worst mistakes", "Does it know"):
        assert absent not in page.text


@pytest.mark.parametrize(
    "gone",
    [
        "manifest.json",
        "recipe.yaml",
        "events.jsonl",
        "quarantine.jsonl",
        "predictions/test_before.jsonl",
        "predictions/test_after.jsonl",
    ],
)
def test_any_one_file_may_be_missing_or_broken(tmp_path: Path, gone: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / gone).write_bytes(b"{\xff\x00 [")
    page, _ = report(folder)
    assert "Accuracy" in page.text
    (folder / gone).unlink()
    page, _ = report(folder)
    assert "Accuracy" in page.text


def test_a_recipe_alone_is_a_run_that_has_not_begun(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: text_classification\nmethod: lora\n")
    page, _ = report(tmp_path)
    assert "This run is not finished" in page.text


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        write_report(tmp_path)
    with pytest.raises(RunError, match="no run folder"):
        write_report(tmp_path / "nowhere")


def test_the_same_folder_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    first, files = write_report(folder).read_bytes(), set(folder.iterdir())
    assert write_report(folder).read_bytes() == first
    assert set(folder.iterdir()) == files


def test_a_worse_and_an_unclear_result_are_called_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    scores = json.loads((folder / "scores.json").read_text())
    for change, told in (([-0.05, -0.08, -0.02], "Worse: −0.050"), ([0.01, -0.02, 0.04], "No clear change: +0.010")):
        write_json(folder / "scores.json", scores | {"difference": {"accuracy": change}})
        assert told in report(folder)[0].text
    lower = {"main_score": {"name": "nll", "better": "lower"}, "difference": {"nll": [-0.2, -0.3, -0.1]}}
    write_json(folder / "scores.json", scores | lower)
    assert "Better: −0.200" in report(folder)[0].text


def test_forgetting_is_told_only_when_it_was_measured(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    scores = json.loads((folder / "scores.json").read_text())
    scores["old_tasks"] = {"news": {"before": {"accuracy": 0.9, "nll": 0.3}, "after": {"accuracy": 0.84, "nll": 0.51}}}
    write_json(folder / "scores.json", scores)
    page, _ = report(folder)
    assert "What was forgotten" in page.text
    assert "+0.060" in page.text
    assert "+0.210" in page.text  # a likelihood that rises is loss too
    scores["old_tasks"] = {
        "auto": {
            "main_score": {"name": "agreement", "better": "higher"},
            "before": {"agreement": 1.0, "kl": 0.0},
            "after": {"agreement": 0.7, "kl": 0.77},
        }
    }
    write_json(folder / "scores.json", scores)
    assert "+0.770" in report(folder)[0].text  # so is a divergence


def test_what_could_not_be_scored_is_not_called_worse_or_lost(tmp_path: Path) -> None:
    nothing = {"name": "ap", "better": "higher"}
    told = words.headline(
        {"main_score": nothing, "before": {"ap": -1.0}, "after": {"ap": -1.0}, "difference": {"ap": [math.nan] * 3}}, 12
    )
    assert told["sure"] == "unclear"
    assert told["verdict"] == "The change is not known: there is nothing to score."
    assert (told["before"], told["after"], told["gain"]) == ("", "–", "–")
    broke = {"before": {"ap": 0.5}, "after": {"ap": math.nan}, "difference": {"ap": [math.nan] * 3}}
    assert words.headline({"main_score": nothing, **broke}, 12)["verdict"] == "The change is not known."
    folder = write_run(tmp_path / "run")
    scores = json.loads((folder / "scores.json").read_text())
    old = {"main_score": nothing, "rows": 12, "before": {"ap": -1.0}, "after": {"ap": -1.0}, "off": {"ap": -1.0},
           "forgetting": {"initial_minus_last": [math.nan] * 3}, "definition": "AP of boats."}  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(scores | {"old_tasks": {"boats": old}}))
    (row,) = forgotten.forgotten(read_facts(folder))["rows"]
    assert all(math.isnan(row[key]) for key in ("before", "after", "off", "forgetting"))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "−1.000" not in page


def test_multi_label_runs_have_their_page_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text()) | {"multi_label": True}
    write_json(folder / "manifest.json", manifest)
    rows = [
        prediction(text="both", label=["negative", "neutral"], predicted=["neutral"], probabilities=[0.2, 0.9, 0.1]),
        prediction(text="none", label=[], predicted=[], probabilities=[0.2, 0.1, 0.1]),
    ]
    for when in ("before", "after"):
        write_lines(folder / "predictions" / f"test_{when}.jsonl", rows)
    page, _ = report(folder)
    text = " ".join(page.text.split())
    assert "the model says neutral (90 %)" in text
    assert "the label is negative (20 %), neutral (90 %)" in text
    assert "Does it know how sure it is?" in text


def test_the_calibration_error_falls_by_the_stored_temperature(tmp_path: Path) -> None:
    page, _ = report(write_run(tmp_path / "run"))
    found = re.search(r"as trained\s*(0\.\d+)\s*with temperature \d\.\d+\s*(0\.\d+)", page.text)
    assert found is not None
    assert float(found[2]) < float(found[1])


def test_ticks_are_round_and_hold_the_range() -> None:
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 3e-14) == [0.0, 1e-14, 2e-14, 3e-14]  # a loss that has gone
    assert ticks(0.567, 0.567)[-1] < 0.7  # one score alone is not drawn under an axis that ends above 1
    for low, high in ((0.13, 0.87), (0, 4.2e-5), (-3, 1200), (0.9981, 0.9989)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-9
        assert found[-1] >= high - 1e-9
        assert 3 <= len(found) <= 8


def test_thinning_keeps_ends_and_extremes() -> None:
    ys = np.sin(np.arange(10_000) / 50)
    ys[4321] = 9.0
    xs, kept = thin(np.arange(10_000), ys)
    assert len(xs) < 500
    assert 9.0 in kept
    assert (xs[0], xs[-1]) == (0, 9999)
    assert (np.diff(xs) > 0).all()


def test_smoothing_keeps_a_straight_line_at_its_start_and_the_mean_of_noise() -> None:
    assert smooth(np.arange(100.0))[:90] == pytest.approx(np.arange(90.0))
    noise = np.random.default_rng(0).normal(size=1000)
    assert smooth(noise).std() < noise.std() / 3
    assert smooth(np.array([2.0])).tolist() == [2.0]


def test_points_that_are_not_numbers_are_left_out_of_a_chart() -> None:
    line = Line("bold", np.arange(4), np.array([1.0, np.nan, np.inf, 2.0]))
    drawn = line_chart([line], label="<x>", x_title="step", y_title="loss")
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert "&lt;x&gt;" in drawn
    assert line_chart([Line("bold", np.arange(1), np.array([np.nan]))], label="", x_title="", y_title="") == ""


def test_numbers_read_well() -> None:
    assert [words.large(n) for n in (7, 999, 294_912, 999_600, 22_713_216, 1.24e9)] == [
        "7",
        "999",
        "295 K",
        "1000 K",
        "22.7 M",
        "1.24 B",
    ]
    assert [words.seconds(s) for s in (8.43, 48.2, 132, 3840)] == ["8.4 s", "48 s", "2 min 12 s", "1 h 04 min"]
    assert [words.mebibytes(m) for m in (0.3, 1.27, 812, 1184)] == ["307 KiB", "1.27 MiB", "812 MiB", "1.16 GiB"]
    assert [words.chance(p) for p in (1.0, 0.9951, 0.5, 0.004, 0.0)] == [
        "> 99.9 %",
        "99.5 %",
        "50 %",
        "0.4 %",
        "< 0.1 %",
    ]
    assert [words.score(v) for v in (0.5, float("nan"), None, -0.1)] == ["0.500", "–", "–", "−0.100"]
    assert words.share(294_912, 22_713_216) == "1.3 %"
    assert words.span([1.0, 1.0]) == ""


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a path; without anything there for `...`."""
    if not path:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ()
    return [path, *(inner for key in keys for inner in _paths(value[key], (*path, key)))]


FOREIGN: tuple[Any, ...] = (5, "x", [], {}, None, [5], {"a": 5}, True, float("inf"), float("nan"), 10**400, ...)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "scores.json"])
def test_a_value_of_any_other_kind_does_not_stop_the_page(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run", examples=30, steps=20)
    scores = json.loads((folder / "scores.json").read_text())
    both = {"before": {"accuracy": 0.5}, "after": {"accuracy": 0.4}, "off": {"accuracy": 0.5}}
    old = {"main_score": scores["main_score"], "rows": 5, **both, "forgetting": {"initial_minus_last": [0.1, 0, 0.2]}}
    curve = [{"share": share, "new_score": 0.1, "forgetting": {"o": 0.1}} for share in (0, 1)]
    ahead = {"seconds": [1, 2, 3], "peak_mib": [1, 2, 3], "steps": 3, "seconds_of": {"training": 1}}
    scores |= {"old_tasks": {"o": old}, "retention": {"share": 0.5, "curve": curve}}
    scores["cost"] |= {"whole_seconds": 5, "forecast": ahead, "stages": {"training": 1}}
    write_json(folder / "scores.json", scores)
    assert read_facts(folder).unreadable == []
    whole = json.loads((folder / name).read_text())
    for path in _paths(whole):
        for new in FOREIGN if path else FOREIGN[:-1]:
            write_json(folder / name, _changed(whole, path, new))
            context(read_facts(folder))
    write_json(folder / name, whole)
    report(folder)


@pytest.mark.parametrize("content", ["", "5", "[" * 100_000, '{"after": 5}', '{"after": {"accuracy": 1}}'])
@pytest.mark.parametrize("name", ["manifest.json", "scores.json", "events.jsonl", "predictions/test_after.jsonl"])
def test_a_foreign_file_is_named_and_the_page_is_made(tmp_path: Path, name: str, content: str) -> None:
    folder = write_run(tmp_path / "run", examples=30, steps=20)
    (folder / name).write_text(content)
    page, _ = report(folder)
    if content and not (name != "scores.json" and content.startswith("{")):
        assert Path(name).name in page.text
    write_json(folder / "manifest.json", {"labels": 5})
    page, _ = report(folder)
    assert "manifest.json: labels is of another kind" in page.text


@pytest.mark.parametrize("content", ["", "{", "5", "[]", "[" * 100_000, "\x00"])
def test_a_run_with_damaged_scores_is_refused_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "task: text_classification\nmodel: some\nmethod: lora\ndata: a.csv\n", encoding="utf-8"
    )
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        open_run(tmp_path)
