"""The statistics of a comparison against references, and that the words say no more than the numbers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.run.sample import write_run
from tests.run.studies import run_of

from tunesmith.run.compare import chance
from tunesmith.run.compare.chance import flipped, front, half_width, holm, tail, with_seeds
from tunesmith.run.compare.judged import judge
from tunesmith.run.compare.verdict import Pair, Row, compare_pairs, put_on_front, summed_up
from tunesmith.run.compare.verdict_words import difference, times, verdict
from tunesmith.types import Interval


def answers(share: float, examples: int = 500, seed: int = 0) -> np.ndarray:
    """Right and wrong answers, where the same examples are hard for all, with a little luck of each run's own."""
    hard = np.random.default_rng(99).random(examples)
    luck = np.random.default_rng(1000 + seed).random(examples)
    return np.asarray((0.9 * hard + 0.1 * luck < share).astype(float))


def said(*rows: Row) -> str:
    placed, over = put_on_front(rows)
    return " ".join(verdict(placed, compare_pairs(placed), over))


def test_holm_is_as_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_flipped_signs_give_the_exact_test_of_mcnemar() -> None:
    gains = np.array([1.0] * 12 + [-1.0] * 3 + [0.0] * 85)
    exact = stats.binomtest(12, 15).pvalue
    assert flipped(gains, 1) == pytest.approx(exact, rel=1e-12)
    assert flipped(-gains / 3, 3) == pytest.approx(exact, rel=1e-12)
    assert flipped(np.zeros(10), 1) == 1.0


def test_flipped_signs_are_all_signs_counted() -> None:
    gains = np.random.default_rng(3).choice([-2 / 3, -1 / 3, 0, 1 / 3, 1], 12)
    sums = [abs(float(np.dot(signs, gains))) for signs in itertools.product((-1, 1), repeat=12)]
    reached = np.mean([each >= abs(gains.sum()) - 1e-9 for each in sums])
    assert flipped(gains, 3) == pytest.approx(float(reached), rel=1e-9)


@pytest.mark.parametrize("ahead", [0, 60, 300])
def test_many_examples_take_the_normal_tail(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = np.array([1 / 3, -1 / 3, 2 / 3, -2 / 3] * 400 + [2 / 3] * (ahead // 2) + [1 / 3] * (1 + ahead % 2))
    monkeypatch.setattr(chance, "EXACT", 1_000_000)
    exact = flipped(gains, 3)
    monkeypatch.setattr(chance, "EXACT", 0)
    assert flipped(gains, 3) == pytest.approx(exact, rel=0.1)


def test_a_clear_difference_is_real_among_many_rows() -> None:
    """With 10,000 drawn flips no p could be under 0.0001, and 741 pairs left nothing real."""
    rows = [summed_up(f"m{n}", "none", [run_of(answers(0.8, seed=40 * n + k), seed=k) for k in range(3)])
            for n in range(38)]  # fmt: skip
    low = summed_up("low", "none", [run_of(answers(0.6, seed=9000 + k), seed=k) for k in range(3)])
    pairs = compare_pairs([*rows, low])
    assert len(pairs) == 741
    assert all(pair.real == (pair.second == 38) for pair in pairs)


def test_a_row_that_is_worse_alone_is_not_advised_because_there_are_many() -> None:
    """The correction for many pairs makes no two rows alike: what is surely not as good takes nobody's place."""
    best, low = answers(0.8), answers(0.8)
    low[np.flatnonzero(best)[:9]] = 0.0
    rows = [summed_up("full", "none", [run_of(best, cost={"seconds": 100.0})]),
            summed_up("head", "none", [run_of(low, cost={"seconds": 5.0})]),
            *(summed_up(f"m{n}", "none", [run_of(answers(0.4, seed=n))]) for n in range(10))]  # fmt: skip
    told = said(*rows)
    assert "head" not in told.partition(".")[0]
    assert "Beside full alone worse, but not once all 66 pairs are counted: head (0.794, −0.018" in told


def test_variances_add_up_as_in_welchs_test() -> None:
    one, two = [0.91, 0.93, 0.95], [0.84, 0.90, 0.87]
    parts = [(float(np.var(each, ddof=1)) / 3, 2.0) for each in (one, two)]
    welch = stats.ttest_ind(one, two, equal_var=False)
    gap = float(np.mean(one) - np.mean(two))
    assert tail(gap, parts) == pytest.approx(welch.pvalue)
    ends = welch.confidence_interval(0.95)
    assert half_width(parts) == pytest.approx((ends.high - ends.low) / 2)


def test_an_interval_of_seeds_alone_is_that_of_student() -> None:
    values = [0.90, 0.92, 0.97]
    mean = float(np.mean(values))
    found = with_seeds(Interval(mean, mean, mean), values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_leaves_the_interval_of_the_examples() -> None:
    assert with_seeds(Interval(0.9, 0.85, 0.93), [0.9]) == Interval(0.9, 0.85, 0.93)


def test_the_front_leaves_out_what_another_beats() -> None:
    losses = np.array([[-0.9, 7.0, 120], [-0.9, 0.4, 40], [-0.6, 0.0, 6], [-0.6, 0.1, 6], [-0.6, 0.0, 6]], float)
    assert front(losses) == [False, True, True, False, True]


def test_the_interval_of_a_row_is_that_of_accuracy() -> None:
    right = np.array([1.0] * 160 + [0.0] * 40)
    row = summed_up("lora", "none", [run_of(right, resamples=4000)])
    assert row.score is not None
    low, high = stats.norm.interval(0.95, 0.8, math.sqrt(0.8 * 0.2 / 200))
    assert (row.score.low, row.score.high) == pytest.approx((low, high), abs=0.01)  # a binomial is not quite normal
    assert row.spread is None


def test_a_clear_difference_is_real_and_none_is_not() -> None:
    rows = [
        summed_up("full", "none", [run_of(answers(0.8, seed=n), seed=n) for n in range(3)]),
        summed_up("lora", "none", [run_of(answers(0.8, seed=10 + n), seed=n) for n in range(3)]),
        summed_up("head", "none", [run_of(answers(0.6, seed=20 + n), seed=n) for n in range(3)]),
    ]
    by_rows = {(pair.first, pair.second): pair for pair in compare_pairs(rows)}
    assert not by_rows[0, 1].real
    assert by_rows[0, 2].real
    assert by_rows[0, 2].difference.low > 0
    assert all(pair.paired for pair in by_rows.values())


def test_pairing_by_example_is_sharper_than_two_intervals() -> None:
    better = answers(0.85)
    worse = better.copy()
    worse[np.flatnonzero(better)[:14]] = 0.0
    rows = [summed_up("full", "none", [run_of(better)]), summed_up("lora", "none", [run_of(worse)])]
    (pair,) = compare_pairs(rows)
    assert pair.real
    assert rows[0].score is not None
    assert rows[1].score is not None
    assert rows[0].score.low < rows[1].score.high  # side by side they overlap


def test_the_spread_over_seeds_counts_against_a_difference() -> None:
    """The same mean difference: real where seeds agree, chance where one seed makes all of it."""
    low = [run_of([1.0] * 800 + [0.0] * 200, seed=n) for n in range(3)]
    steady = [run_of([1.0] * 840 + [0.0] * 160, seed=n) for n in range(3)]
    wild = [run_of([1.0] * n + [0.0] * (1000 - n), seed=n) for n in (800, 800, 920)]
    assert compare_pairs([summed_up("a", "none", steady), summed_up("b", "none", low)])[0].real
    assert not compare_pairs([summed_up("a", "none", wild), summed_up("b", "none", low)])[0].real


@pytest.mark.slow
def test_methods_that_are_the_same_are_seldom_called_different() -> None:
    """200 studies of two equal methods whose seeds differ by more than the test examples' noise."""
    draw = np.random.default_rng(5)
    real = 0
    for _ in range(200):
        hard = draw.random(400)
        skills = 0.8 + 0.03 * draw.normal(size=6)
        runs = [run_of((0.7 * hard + 0.3 * draw.random(400) < skill).astype(float), resamples=200) for skill in skills]
        rows = [summed_up("a", "none", runs[:3]), summed_up("b", "none", runs[3:])]
        real += compare_pairs(rows)[0].real
    assert real <= 18  # 5 % of 200 are 10; 18 is 2.6 standard errors above


def test_other_test_examples_are_not_compared() -> None:
    rows = [
        summed_up("full", "none", [run_of(answers(0.9))]),
        summed_up("head", "none", [run_of(answers(0.5), key="other")]),
    ]
    (pair,) = compare_pairs(rows)
    assert math.isnan(pair.p)
    assert not pair.real
    assert "Not compared with full" in said(*rows)


def test_forgetting_is_the_mean_over_seeds_widened_by_their_spread() -> None:
    runs = [
        run_of(answers(0.8), seed=n, lost=[value, value - 0.01, value + 0.01]) for n, value in enumerate((0.06, 0.08))
    ]
    found = summed_up("full", "none", runs).forgetting["news"]
    assert found.value == pytest.approx(0.07)
    assert found.high - found.value > 0.01
    single = summed_up("full", "none", runs[:1]).forgetting["news"]
    assert (single.low, single.high) == pytest.approx((0.05, 0.07))


def test_no_more_is_lost_than_there_was() -> None:
    runs = [run_of(answers(0.8, seed=n), seed=n, lost=[value, value - 0.05, value + 0.05])
            for n, value in enumerate([0.93, 0.80, 0.85])]  # fmt: skip
    assert summed_up("full", "none", runs).forgetting["news"].high > 0.95
    for run in runs:
        run.scores["old_tasks"]["news"]["before"] = {"accuracy": 0.95}
    found = summed_up("full", "none", runs).forgetting["news"]
    assert (found.value, found.high) == pytest.approx((0.86, 0.95))
    assert found.low < 0.8


def test_a_run_without_old_tasks_or_with_half_an_entry_is_no_fault() -> None:
    bare = run_of(answers(0.8))
    assert summed_up("full", "none", [bare]).forgetting == {}
    odd = replace(bare, scores={**bare.scores, "old_tasks": {"news": {"forgetting": None}}})
    assert summed_up("full", "none", [odd]).forgetting == {}
    mixed = summed_up("full", "none", [run_of(answers(0.8), lost=[0.1, 0.0, 0.2]), bare])
    assert mixed.forgetting == {}


def test_of_rows_that_are_the_same_the_plain_one_is_advised() -> None:
    """A retention that has nothing to hold is no reason to advise it."""
    rows = [summed_up("full", "none", [run_of(answers(0.8), lost=[0.5, 0.4, 0.6], cost={"seconds": 50.0})]),
            *(summed_up("head", held, [run_of(answers(0.8, seed=1), lost=[0.0, 0.0, 0.0], cost={"seconds": seconds})])
              for held, seconds in (("lwf", 0.2), ("none", 0.5), ("l2_sp", 0.3)))]  # fmt: skip
    assert said(*rows).startswith("head ")
    assert not said(*rows).startswith("head with")


def test_the_verdict_says_what_the_plan_promises() -> None:
    full = [run_of(answers(0.8, 4000, n), seed=n, lost=[0.071, 0.06, 0.08], cost={"seconds": 120.0}) for n in range(3)]
    lora = [
        run_of(answers(0.8, 4000, 9 + n), seed=n, lost=[0.004, 0.0, 0.01], cost={"seconds": 41.0}) for n in range(3)
    ]
    told = said(summed_up("full", "none", full), summed_up("lora", "none", lora))
    assert told.startswith("lora is as good as full here (accuracy 0.")
    assert "is within chance), forgets 0.4 instead of 7.1 points of news, and takes a third of the time." in told
    assert "unknown" not in told


def test_few_examples_do_not_make_two_methods_equally_good() -> None:
    rows = [summed_up(n, "none", [run_of(answers(0.8, 60, s))]) for s, n in enumerate(("full", "lora"))]
    told = said(*rows)
    assert "as good as" not in told
    assert "cannot be told apart from" in told
    assert "spread over seeds is unknown" in told
    assert "only 60 test examples" in told
    assert "nothing is known of forgetting" in told


def test_forgetting_whose_intervals_touch_is_too_close_to_tell() -> None:
    one = summed_up("full", "none", [run_of(answers(0.8), lost=[0.03, 0.01, 0.05])])
    two = summed_up("lora", "none", [run_of(answers(0.8), lost=[0.02, 0.0, 0.04], cost={"seconds": 1.0})])
    told = said(one, two)
    assert "forgets 2.0 against 3.0 points of news, too close to tell" in told
    assert "instead of" not in told


def test_the_worse_the_failed_and_the_missing_are_named() -> None:
    full = summed_up("full", "none", [run_of(answers(0.8))], [(1, "no memory")])
    head = summed_up("head", "replay", [run_of(answers(0.3))], missing=2)
    none = summed_up("ia3", "none", [], [(0, "no layer")])
    told = said(full, head, none)
    assert told.startswith("full is best here: accuracy")
    assert "Worse than full by more than the chance that lies in the test examples (lower accuracy): head with" in told
    assert "2 of 6 runs failed and count nowhere: full (seed 1) and ia3 (seed 0)." in told
    assert "2 runs have not ended yet." in told
    assert said(none).startswith("No run ended well")


def test_lower_is_better_turns_best_and_worse() -> None:
    def loss(value: float) -> Row:
        run = run_of(answers(0.5))
        scores = {**run.scores, "main_score": {"name": "loss", "better": "lower"}, "after": {"loss": value},
                  "intervals": {"after": {"loss": [value - 0.1, value + 0.1]}}}  # fmt: skip
        return summed_up(f"loss{value}", "none", [replace(run, value=value, scores=scores, draws=None, right=None)])

    told = said(loss(3.0), loss(1.0))
    assert told.startswith("loss1.0 is best here: loss 1.000")
    assert (
        "Worse than loss1.0 by more than the chance that lies in the test examples (higher loss): loss3.0 (3.000, 2.000"
        in told
    )


@pytest.mark.parametrize(
    ("new", "old", "words"),
    [(40, 120, "takes a third of the time"), (60, 120, "takes half the time"), (100, 110, "takes about the same time"),
     (200, 100, "takes 2 times as long"), (7, 120, "takes 5.8 % of the time"), (0, 10, "")],
)  # fmt: skip
def test_time_is_said_in_words(new: float, old: float, words: str) -> None:
    assert times(new, old) == words


def test_a_difference_shows_its_interval() -> None:
    assert difference(Interval(-0.002, -0.008, 0.004)) == "−0.002 [−0.008, 0.004]"
    assert Pair(0, 1, Interval(0, 0, 0), 0.2).real is False


def test_runs_are_judged_from_their_folders_on_the_same_resamples(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name, skill=skill, seed=seed)
                for name, skill, seed in (("one", 1.6, 0), ("two", 1.6, 0)))  # fmt: skip
    first, second = judge([(one, 0), (two, 1)])
    scores = json.loads((one / "scores.json").read_text())
    assert first.value == scores["after"]["accuracy"]
    assert first.examples == 400
    assert first.key == second.key
    assert first.draws is not None
    assert second.draws is not None
    assert (first.draws == second.draws).all()
    assert np.std(first.draws) == pytest.approx(math.sqrt(first.value * (1 - first.value) / 400), rel=0.1)
    assert first.right is not None
    assert first.right.mean() == pytest.approx(first.value)


def test_answers_that_do_not_give_the_score_are_not_judged_by(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    scores = json.loads((folder / "scores.json").read_text())
    scores["after"]["accuracy"] += 0.01
    (folder / "scores.json").write_text(json.dumps(scores))
    (run,) = judge([(folder, 0)])
    assert run.draws is None
    row = summed_up("lora", "none", [run])
    assert row.score is not None
    assert [row.score.low, row.score.high] == pytest.approx(scores["intervals"]["after"]["accuracy"])


def test_micro_f1_and_ap_are_resampled_as_they_are_scored(tmp_path: Path) -> None:
    multi = write_run(tmp_path / "multi")
    rows: list[dict[str, object]] = [
        {"label": ["a"], "predicted": ["a", "b"]},
        {"label": ["b", "a"], "predicted": ["b"]},
        {"label": [], "predicted": []},
    ]
    put(multi, "micro_f1", 2 * 2 / (2 * 2 + 1 + 1), rows, ["a", "b"])
    boxes = write_run(tmp_path / "boxes")
    found: list[dict[str, object]] = [
        {"image": str(n), "boxes": [[0, 0, 10, 10, "a", 0]], "predicted": [[0, 0, 10, 10, "a", 0.9]]} for n in range(3)
    ]
    put(boxes, "ap", 1.0, found, ["a", "b"])
    first, second = judge([(multi, 0), (boxes, 0)])
    assert first.draws is not None
    assert 0 <= first.draws.min() < first.draws.max() <= 1
    assert first.right is None
    assert second.draws is not None
    assert second.draws == pytest.approx(1.0)


def test_a_loss_a_token_is_resampled_by_the_tokens_of_its_examples(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "language")
    rows: list[dict[str, object]] = [{"chat": str(n), "loss": loss, "tokens": tokens, "right": 1}
                                     for n, (loss, tokens) in enumerate([(1.0, 10), (2.0, 30), (0.5, 4)])]  # fmt: skip
    put(folder, "loss", (10 + 60 + 2) / 44, rows, [])
    (run,) = judge([(folder, 0)])
    assert run.draws is not None
    assert 0.5 <= run.draws.min() < run.draws.max() <= 2.0
    again = [dict(row, loss=float(str(row["loss"])) + 1, right=0) for row in rows]
    put(folder, "loss", (10 + 60 + 2) / 44 + 1, again, [])
    (other,) = judge([(folder, 0)])
    assert other.key == run.key
    assert other.draws == pytest.approx(run.draws + 1)


def put(folder: Path, metric: str, value: float, rows: Sequence[Mapping[str, object]], labels: list[str]) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    scores["main_score"]["name"] = metric
    scores["after"] = {metric: value}
    (folder / "scores.json").write_text(json.dumps(scores))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "labels": labels}))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions" / "test_after.jsonl").write_text(text)


@pytest.mark.parametrize(("lost", "told"), [(-0.3, "gains 30.0 and thus more than 10.0 points of news"),
                                            (-0.02, "gains 10.0 and thus more than 2.0 points of news")])  # fmt: skip
def test_what_both_gained_is_not_called_forgotten(lost: float, told: str) -> None:
    one = summed_up("full", "none", [run_of(answers(0.8), lost=[-0.1, -0.11, -0.09], cost={"seconds": 9.0})])
    two = summed_up(
        "lora", "none", [run_of(answers(0.8), lost=[lost, lost - 0.01, lost + 0.01], cost={"seconds": 1.0})]
    )
    assert told in said(one, two)
