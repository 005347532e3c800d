"""The losses of preference tuning beside formulas written out by hand, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tunesmith.tasks import _preference as preference
from tunesmith.tasks._preference import Answers, Terms

TERMS = {
    "dpo": Terms("dpo", 0.3),
    "smoothed": Terms("dpo", 0.3, label_smoothing=0.2),
    "with sft": Terms("dpo", 0.3, sft_weight=0.7),
    "ipo": Terms("ipo", 0.2),
    "orpo": Terms("orpo", 0.4, sft_weight=1.0),
    "simpo": Terms("simpo", 2.0, gamma=1.1),
    "kto": Terms("kto", 0.3, desirable_weight=1.3, undesirable_weight=0.8),
    "kto with sft": Terms("kto", 0.3, sft_weight=0.5),
}
NO_POINT = torch.zeros(())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(terms: Terms, logps: list[float], tokens: list[int], references: list[float], point: float) -> float:
    """One pair, straight from the papers."""
    (w, x), (m, n), (v, y), b = logps, tokens, references, terms.beta
    sft = -terms.sft_weight * w / m
    if terms.objective == "dpo":
        h = b * ((w - v) - (x - y))
        smooth = terms.label_smoothing
        return -(1 - smooth) * math.log(sigmoid(h)) - smooth * math.log(sigmoid(-h)) + sft
    if terms.objective == "ipo":
        return ((w - v) / m - (x - y) / n - 1 / (2 * b)) ** 2 + sft
    if terms.objective == "simpo":
        return -math.log(sigmoid(b * w / m - b * x / n - terms.gamma)) + sft
    if terms.objective == "orpo":
        p, q = math.exp(w / m), math.exp(x / n)
        return -b * math.log(sigmoid(math.log(p / (1 - p)) - math.log(q / (1 - q)))) + sft
    liked = terms.desirable_weight * (1 - sigmoid(b * ((w - v) - point)))
    return liked + terms.undesirable_weight * (1 - sigmoid(b * (point - (x - y)))) + sft


def pair(logps: Tensor, tokens: list[int], references: list[float]) -> Answers:
    none = torch.zeros(1, 1, dtype=torch.float64)
    return Answers(
        torch.cat([logps[None], none], dim=1),
        torch.tensor([[*tokens, 0.0]], dtype=torch.float64),
        torch.tensor([[*references, 0.0]], dtype=torch.float64),
    )


def slope(of: Callable[[list[float]], float], at: list[float], column: int) -> float:
    step = 1e-5
    up, down = list(at), list(at)
    up[column] += step
    down[column] -= step
    return (of(up) - of(down)) / (2 * step)


negative = st.floats(-60, -0.5)


@pytest.mark.parametrize("name", TERMS)
@settings(max_examples=30)
@given(logps=st.tuples(negative, negative), references=st.tuples(negative, negative),
       tokens=st.tuples(st.integers(1, 30), st.integers(1, 30)), point=st.floats(0, 3))  # fmt: skip
def test_loss_and_gradient_are_those_of_the_paper(
    name: str, logps: tuple[float, ...], references: tuple[float, ...], tokens: tuple[int, ...], point: float
) -> None:
    terms = TERMS[name]

    def wanted(at: list[float]) -> float:
        return by_hand(terms, at, list(tokens), list(references), point)

    given_logps = torch.tensor(logps, dtype=torch.float64, requires_grad=True)
    answers = pair(given_logps, list(tokens), list(references))
    total, count = preference.losses(answers, terms, torch.tensor(point, dtype=torch.float64))
    assert count.tolist() == [2.0 if terms.objective == "kto" else 1.0]
    assert float(total.detach()) == pytest.approx(wanted(list(logps)), rel=1e-9, abs=1e-12)
    total.sum().backward()
    assert given_logps.grad is not None
    for column in (0, 1):
        exact = slope(wanted, list(logps), column)
        assert float(given_logps.grad[column]) == pytest.approx(exact, rel=1e-4, abs=1e-7)  # a difference quotient


@pytest.mark.parametrize("name", ["dpo", "ipo", "orpo", "simpo", "kto"])
@settings(max_examples=30)
@given(st.lists(negative, min_size=4, max_size=4), st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_swapping_chosen_and_rejected_negates_the_margin(
    name: str, values: list[float], tokens: tuple[int, int]
) -> None:
    logps, references = torch.tensor(values[:2], dtype=torch.float64), values[2:]
    one = preference.rewards(pair(logps, list(tokens), references), TERMS[name])
    two = preference.rewards(pair(logps.flip(0), list(tokens)[::-1], references[::-1]), TERMS[name])
    assert float(one[0, 0] - one[0, 1]) == pytest.approx(-float(two[0, 0] - two[0, 1]), abs=1e-12)


def test_simpo_compares_log_probabilities_a_token_so_that_length_alone_gains_nothing() -> None:
    short, long = (
        pair(torch.tensor([-10.0, -10.0]).double(), [5, 5], [0, 0]),
        pair(torch.tensor([-20.0, -10.0]).double(), [10, 5], [0, 0]),
    )
    losses = [float(preference.losses(each, TERMS["simpo"], NO_POINT)[0]) for each in (short, long)]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] == pytest.approx(-math.log(sigmoid(-1.1)))


def test_label_smoothing_makes_boundless_confidence_dear() -> None:
    sure = torch.tensor([0.0, 1.0, 30.0], dtype=torch.float64)
    plain, smoothed = preference.dpo(sure), preference.dpo(sure, label_smoothing=0.1)
    assert plain[2] < 1e-12
    assert float(smoothed[2]) == pytest.approx(0.1 * 30, rel=1e-6)
    assert float(smoothed[0]) == pytest.approx(math.log(2))


def test_orpo_keeps_its_digits_where_the_odds_are_extreme() -> None:
    means = torch.tensor([-1e-6, -1e-3, -5.0, -40.0, 0.0], requires_grad=True)
    found = preference.orpo(means, means.detach().flip(0))
    found.sum().backward()
    assert means.grad is not None
    assert bool(found.isfinite().all())
    assert bool(means.grad.isfinite().all())
    exact = math.log(math.expm1(1e-3)) - 1e-3  # log(1 - exp(-x)) = log(expm1(x)) - x
    assert float(preference._log_rest(torch.tensor(-1e-3))) == pytest.approx(exact, rel=1e-6)


def test_before_training_every_reward_that_is_gained_is_nothing() -> None:
    logps = torch.tensor([-7.0, -9.0], dtype=torch.float64)
    for name, wanted in (("dpo", math.log(2)), ("ipo", (1 / 0.4) ** 2), ("kto", 1.3 * 0.5 + 0.8 * 0.5)):
        answers = pair(logps, [3, 4], logps.tolist())
        assert preference.rewards(answers, TERMS[name]).abs().sum() == 0
        assert float(preference.losses(answers, TERMS[name], NO_POINT)[0]) == pytest.approx(wanted)


def test_the_reference_point_is_the_mean_over_answers_to_other_prompts_and_at_least_nothing() -> None:
    logps = torch.tensor([[0, 0, -5.0], [0, 0, -2.0], [0, 0, 0.0]], dtype=torch.float64)
    tokens = torch.tensor([[0, 0, 4.0], [0, 0, 2.0], [0, 0, 0.0]], dtype=torch.float64)
    references = torch.tensor([[0, 0, -6.0], [0, 0, -4.0], [0, 0, 0.0]], dtype=torch.float64)
    answers = Answers(logps, tokens, references)
    assert float(preference.reference_point(preference.drift(answers))) == pytest.approx(1.5)
    swapped = replace(answers, logps=references, references=logps)
    assert float(preference.reference_point(preference.drift(swapped))) == 0.0


def test_kto_of_single_answers_counts_only_those_that_are_there() -> None:
    logps = torch.tensor([[-3.0, 0, 0], [0, -4.0, 0]], dtype=torch.float64)
    tokens = torch.tensor([[2.0, 0, 0], [0, 3.0, 0]], dtype=torch.float64)
    answers = Answers(logps, tokens, torch.tensor([[-4.0, 0, 0], [0, -2.0, 0]], dtype=torch.float64))
    total, count = preference.losses(answers, TERMS["kto"], torch.tensor(0.5, dtype=torch.float64))
    assert count.tolist() == [1.0, 1.0]
    assert float(total[0]) == pytest.approx(1.3 * (1 - sigmoid(0.3 * (1.0 - 0.5))))
    assert float(total[1]) == pytest.approx(0.8 * (1 - sigmoid(0.3 * (0.5 - -2.0))))
