"""The report of tasks on pictures: small pictures inside the page, curves and errors of a detector, nothing foreign."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.run.picture_sample import CELLS, write_detection_run, write_picture_run
from tests.run.sample import write_json, write_lines, write_run
from tests.run.test_report import Page, report

from tunesmith.run.report_parts import detection, pictures, words
from tunesmith.run.report_parts.facts import read_facts
from tunesmith.run.thumbnails import _worst


def rows(folder: Path) -> list[dict[str, Any]]:
    file = folder / "predictions" / "test_after.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def images(page: Page) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in page.tags if tag == "img"]


def test_mistakes_and_samples_are_shown_as_pictures(tmp_path: Path) -> None:
    folder = write_picture_run(tmp_path / "clothes")
    page, source = report(folder)
    for title in ("Worst mistakes", "Samples", "What is taken for what", "Does it know how sure it is?"):
        assert title in page.text
    shown = images(page)
    assert len(shown) == 10 + pictures.SAMPLES
    held = {base64.b64encode(f.read_bytes()).decode() for f in (folder / "predictions" / "pictures").iterdir()}
    for attributes in shown:
        assert str(attributes["src"]).removeprefix("data:image/jpeg;base64,") in held
        assert str(attributes["alt"]).endswith(".jpg")
    policy = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not re.search(r"url\(|@import|https?://", source)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_a_report_on_texts_has_no_pictures_in_it(tmp_path: Path) -> None:
    page, source = report(write_run(tmp_path / "run"))
    assert not images(page)
    assert ".pictures" not in source
    assert "Samples" not in page.text


def test_a_row_without_its_picture_is_shown_by_its_path(tmp_path: Path) -> None:
    folder = write_picture_run(tmp_path / "run")
    for file in (folder / "predictions" / "pictures").iterdir():
        file.unlink()
    page, _ = report(folder)
    assert not images(page)
    assert re.search(r"/\w+/\d{4}\.jpg", page.text)


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "/etc/passwd", "pictures/../../secret.jpg", "link.jpg", "a\0b", 7, [], ""]
)
def test_only_the_runs_own_pictures_are_carried(tmp_path: Path, name: Any) -> None:
    folder = tmp_path / "run"
    (folder / "predictions" / "pictures").mkdir(parents=True)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"\xff\xd8\xff secret")
    (folder / "secret.jpg").write_bytes(b"\xff\xd8\xff secret")
    (folder / "predictions" / "link.jpg").symlink_to(secret)
    assert pictures.embedded(folder, name, "x") is None


def test_only_jpegs_of_a_fair_size_are_carried(tmp_path: Path) -> None:
    home = tmp_path / "predictions"
    home.mkdir()
    (home / "a.jpg").write_bytes(b"<svg onload=alert(1)>")
    (home / "b.jpg").write_bytes(b"\xff\xd8\xff" + b"0" * pictures.LARGEST)
    (home / "c.jpg").write_bytes(b"\xff\xd8\xff")
    assert pictures.embedded(tmp_path, "a.jpg", "x") is None
    assert pictures.embedded(tmp_path, "b.jpg", "x") is None
    assert pictures.embedded(tmp_path, "missing.jpg", "x") is None
    assert 'alt="&#34;&gt;&lt;b&gt;"' in str(pictures.embedded(tmp_path, "c.jpg", '"><b>'))


def test_markup_in_paths_and_classes_stays_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    folder = write_detection_run(tmp_path / "run", (evil, "{{ 7*7 }}", "</svg>"))
    write_lines(folder / "predictions" / "test_after.jsonl", [row | {"image": evil} for row in rows(folder)])
    page, source = report(folder)
    assert "<script" not in source
    assert page.text.count(evil) >= 3
    assert "{{ 7*7 }}" in page.text


def test_a_detector_has_curves_classes_errors_and_pictures(tmp_path: Path) -> None:
    page, source = report(write_detection_run(tmp_path / "cells"))
    text = " ".join(page.text.split())
    assert "AP 0.000 → 0.583" in text
    assert "on 24 held-out examples (95 % interval 0.551–0.612)" in text
    for told in ("Precision against recall", "Kinds of errors", "Pictures with their boxes", "AP50", "AP small"):
        assert told in text
    errors = detection.errors(read_facts(tmp_path / "cells"))
    assert [(kind, count) for kind, _, count, _ in errors][:3] == [("missed", 31), ("wrong class", 4), ("poor box", 57)]
    assert "true boxes that nothing comes near" in text
    assert "of answers with a score of 0.5 or more; 412 are right" in text
    assert len(errors) == 5
    for absent in ("What is taken for what", "Does it know how sure it is?", "Worst mistakes"):
        assert absent not in text
    assert len(images(page)) == 8
    lines = re.findall(r'<polyline stroke="(#[0-9a-f]{6})"', source)
    assert len(lines) == len(set(lines)) == len(CELLS)
    assert "−1.000" not in text  # COCO's word for nothing to score is no score
    assert "AP small of boxes below 32 × 32 pixels0.000––" in text


def test_classes_of_a_detector_stand_weakest_first_with_their_boxes(tmp_path: Path) -> None:
    folder = write_detection_run(tmp_path / "cells")
    held = [box[4] for row in rows(folder) for box in row["boxes"]]
    table = detection.classes(read_facts(folder))
    assert [(row["label"], row["test"], row["after"]) for row in table] == [
        ("Platelets", held.count("Platelets"), 0.42),
        ("RBC", held.count("RBC"), 0.605),
        ("WBC", held.count("WBC"), 0.79),
    ]


def test_classes_that_a_detector_knew_are_told_from_new_ones(tmp_path: Path) -> None:
    folder = write_detection_run(tmp_path / "cells")
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"known_labels": ["RBC", "WBC"]}))
    (_, two, _, after), (_, one, _, new) = detection.detection(read_facts(folder))["old_and_new"]
    assert (two, one, new) == (2, 1, 0.42)
    assert after == pytest.approx((0.605 + 0.79) / 2)
    assert report(folder)[0].text.count("known before") == 3


def test_of_many_classes_the_weakest_curves_are_drawn(tmp_path: Path) -> None:
    labels = tuple(f"类别 {i}" for i in range(30))
    page, source = report(write_detection_run(tmp_path / "many", labels))
    assert source.count("<polyline stroke=") == 8
    assert "the 8 weakest of 30 classes" in page.text
    assert "The other 10 classes" in page.text


@pytest.mark.parametrize(
    "curve",
    [
        None,
        [],
        {"recall": [0, 1], "precision": [1]},
        {"recall": [], "precision": []},
        {"recall": [float("nan"), "x"], "precision": [1, 1]},
        {"recall": [-1, -1], "precision": [-1, -1]},
        {"recall": "abc", "precision": "abc"},
        {"recall": 3},
    ],
)
def test_broken_curves_are_left_out(tmp_path: Path, curve: Any) -> None:
    folder = write_detection_run(tmp_path / "cells")
    file = folder / "predictions" / "detection.json"
    told = json.loads(file.read_text())
    write_json(file, {"curves": {**told["curves"], "RBC": curve}, "errors": {"missed": "x", "odd <kind>": 3}})
    page, source = report(folder)
    assert source.count("<polyline stroke=") == 2
    assert "odd <kind>" in page.text
    assert not re.search(r'points="[^"]*nan', source)


@pytest.mark.parametrize("gone", ["predictions/test_after.jsonl", "predictions/detection.json", "manifest.json"])
def test_any_one_file_of_a_detectors_run_may_be_missing_or_broken(tmp_path: Path, gone: str) -> None:
    folder = write_detection_run(tmp_path / "cells")
    (folder / gone).write_bytes(
        b'{"boxes": 3, "predicted": [[1]], "curves": [], "errors": 1, "thumbnail": {}}\n{\xff ['
    )
    assert "0.583" in report(folder)[0].text
    (folder / gone).unlink()
    assert "0.583" in report(folder)[0].text


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_detection_run(tmp_path / "cells")
    assert report(folder)[1] == report(folder)[1]


def test_samples_are_spread_evenly() -> None:
    assert pictures.spread(list(range(5)), 12) == [0, 1, 2, 3, 4]
    assert pictures.spread(list(range(100)), 4) == [12, 37, 62, 87]
    assert len(set(pictures.spread(list(range(13)), 12))) == 12


def test_examples_are_called_what_they_are() -> None:
    assert [words.noun(t) for t in ("text_classification", "image_classification", "object_detection")] == [
        "text",
        "picture",
        "picture",
    ]


def test_right_answers_in_another_order_are_no_mistakes() -> None:
    right = {"label": ("dog", "cat"), "predicted": ("cat", "dog"), "probabilities": [0.99, 0.98]}
    sure = {"label": ("dog",), "predicted": ("cat", "dog"), "probabilities": [0.9, 0.6]}
    unsure = {"label": ("cat",), "predicted": ("cat", "dog"), "probabilities": [0.95, 0.55]}
    assert _worst([right, unsure, sure], ("cat", "dog")) == [2, 1]
    single = [{"label": "dog", "predicted": "cat", "probabilities": [p, 1 - p]} for p in (0.6, 0.9)]
    assert _worst([*single, {**single[0], "predicted": "dog"}], ("cat", "dog")) == [1, 0]
