"""The book of trials: what is drawn is new, and a trial is compared with those it may be compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.checks import checked
from tunesmith.run.search.space import parse_over, settings
from tunesmith.run.search.trial_folder import Seen
from tunesmith.run.search.trials import COMPANY, Trials

RECIPE = Recipe.make({"task": "text_classification", "model": "a-model", "data": "reviews.csv", "method": "lora"})


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Trials]:
    """An empty book that prunes by hyperband."""
    trials = Trials(tmp_path, ["maximize"], seed=0, pruning="hyperband")
    yield trials
    trials.close()


def test_the_values_of_the_default_are_not_tried_again(book: Trials) -> None:
    space = checked([parse_over("method.rank=4,8,16"), parse_over("train.epochs=2..4:step=2")], RECIPE)
    book.add({"method.rank": "8", "train.epochs": 4.0}, (), space)
    while (drawn := book.draw(space, RECIPE)) is not None:
        book.add(drawn, settings(space, drawn), space)
    tried = [(trial.drawn["method.rank"], trial.drawn["train.epochs"]) for trial in book.all()]
    assert len(tried) == len(set(tried)) == 6


def test_hyperband_prunes_a_trial_only_in_the_company_of_its_own_bracket(book: Trials) -> None:
    brackets: list[int] = []
    pruned: list[int] = []
    for number in range(40):
        book.add({}, (f"method.rank={number + 1}",), ())
        course = [Seen(step, step, {"accuracy": 1.0 - number / 100}) for step in (10, 30, 90)]  # ever worse
        step = book.judge(number, course, "accuracy", 0)  # all go to 90 %, so all of a bracket are company
        study = book.copy()
        study.pruner.prune(study, study.trials[number])  # its brackets are made when it is first asked
        brackets.append(study.pruner._get_bracket_id(study, study.trials[number]))  # type: ignore[attr-defined]
        if step is not None:
            pruned.append(number)
            assert brackets[:number].count(brackets[number]) >= COMPANY, f"trial {number} was pruned alone"
    assert {brackets[number] for number in pruned} == {0, 1, 2}
