"""The page of a comparison: every row is on it, it stands alone, and foreign text cannot disturb it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.run.studies import bare_recipe, run_of
from tests.run.test_report import Page

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.charts import Dot, number, scatter
from tunesmith.run.compare.page import write_page
from tunesmith.run.compare.verdict import Row, compare_pairs, put_on_front, summed_up
from tunesmith.run.compare.verdict_words import verdict
from tunesmith.run.report_parts.charts import ticks


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return bare_recipe(tmp_path)


def study() -> list[Row]:
    def right(share: float) -> list[float]:
        return [1.0] * round(400 * share) + [0.0] * round(400 * (1 - share))

    rows = []
    for method, share, lost, seconds in (("full", 0.9, 0.071, 120), ("lora", 0.895, 0.004, 40), ("head", 0.6, 0.0, 5)):
        for retention in ("none", "replay"):
            held = lost * (0.2 if retention == "replay" else 1.0)
            runs = [run_of(right(share), seed=n, lost=[held, held - 0.01, held + 0.01],
                           cost={"seconds": seconds + n}) for n in range(2)]  # fmt: skip
            rows.append(summed_up(method, retention, runs))
    rows.append(summed_up("ia3", "none", [], [(0, "finds no layer <b>here</b>\nTake another."), (1, "no memory")], 1))
    return rows


def page_of(rows: list[Row], recipe: Recipe, notes: tuple[str, ...] = ()) -> tuple[Page, str]:
    placed, over = put_on_front(rows)
    pairs = compare_pairs(placed)
    file = Path(recipe.data.path).parent / "compare.html"
    said = verdict(placed, pairs, over)
    write_page(file, recipe, rows=placed, pairs=pairs, sentences=said, over=over, notes=notes)
    source = file.read_text(encoding="utf-8")
    return Page(source), source


def test_every_row_its_numbers_and_what_failed_are_on_the_page(recipe: Recipe) -> None:
    page, _ = page_of(study(), recipe, ("Up to 2 runs shared this machine.",))
    text = " ".join(page.text.split())
    for told in ("full", "lora", "head", "ia3", "replay", "0.900", "0.895", "0.600", "7.1", "[6.1, 8.1]", "2 min 01 s",
                 "500 MiB", "1 MiB", "2 seeds", "2 runs failed", "not finished", "Take another.", "no memory",
                 "Up to 2 runs shared this machine.", "news: old accuracy", "train.steps", "Holm"):  # fmt: skip
        assert told in text, told
    assert text.count("cells/") == 1
    assert sum(tag == "circle" for tag, _ in page.tags) == 6 + 2 * 6  # the table, and two pictures


def test_the_verdict_stands_at_the_top(recipe: Recipe) -> None:
    page, _ = page_of(study(), recipe)
    text = " ".join(page.text.split())
    assert "lora with replay is as good as full here, forgets 0.1 instead of 7.1 points of news, and takes" in text
    assert text.index("here") < text.index("At a glance") < text.index("The table") < text.index("Which differences")


def test_the_page_stands_alone(recipe: Recipe) -> None:
    page, source = page_of(study(), recipe)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    for _, attributes in page.tags:
        assert not {"src", "href", "xlink:href", "srcset"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", source)
    policy = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme: dark" in source
    assert all(a.get("role") == "img" and a.get("aria-label") for tag, a in page.tags if tag == "svg")
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")


def test_the_same_comparison_gives_the_same_bytes(recipe: Recipe) -> None:
    assert page_of(study(), recipe)[1] == page_of(study(), recipe)[1]


def test_foreign_text_is_shown_and_never_run(recipe: Recipe) -> None:
    rows = [summed_up("ia3", "none", [], [(0, "<script>alert(1)</script> \u202e")])]
    page, source = page_of(rows, recipe)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "⟨U+202E⟩" in source
    assert "No run ended well" in page.text


def test_without_old_tasks_nothing_is_said_of_forgetting(recipe: Recipe) -> None:
    rows = [
        summed_up(name, "none", [run_of([1.0] * n + [0.0] * (200 - n))]) for name, n in (("full", 160), ("head", 90))
    ]
    page, _ = page_of(rows, recipe)
    assert "forgetting of" not in page.text
    assert "nothing is known of forgetting" in page.text
    assert "retention" not in page.text.partition("The table")[2].partition("How it was measured")[0]


def test_names_in_a_picture_do_not_lie_on_each_other() -> None:
    nan = (float("nan"), float("nan"))
    dots = [Dot(f"method number {n}", 1.0 + 0.01 * n, 0.9 + 0.0005 * n, nan, nan, n < 2) for n in range(12)]
    source = str(scatter(dots, label="many", x_title="x", y_title="y"))
    found = re.findall(
        r'<text class="(?:mark|tick)" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">(method[^<]+)<', source
    )
    boxes = []
    for x, y, anchor, name in found:
        wide = 6.0 * len(name)
        left = float(x) - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
        boxes.append((left, float(y) - 9, left + wide, float(y)))
    assert 2 <= len(boxes) <= 12
    assert "method number 0" in {each[3] for each in found}
    for place, a in enumerate(boxes):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[place + 1 :])


def test_scores_that_are_shares_have_no_axis_above_one() -> None:
    dots = [Dot("a", 1.0, 0.99, (0.9, 1.1), (0.95, 1.0), True), Dot("b", 2.0, 0.9, (1.9, 2.1), (0.85, 0.95), False)]
    source = str(scatter(dots, label="two", x_title="x", y_title="y", share=True))
    assert max(float(t) for t in re.findall(r'text-anchor="end">([\d.]+)<', source)) <= 1.0


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (-2.5, 10.0), (0.81, 0.86), (0.0, 0.0012), (0.0, 123456.0)])
def test_no_two_ticks_read_alike(low: float, high: float) -> None:
    found = ticks(low, high)
    assert len({number(tick, found) for tick in found}) == len(found)
    assert all(abs(float(number(t, found).replace("−", "-").replace(",", "")) - t) < 1e-9 for t in found)
