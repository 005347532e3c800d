"""The range test of learning rates: the rate rises from step to step, the loss shows where it learns and breaks.

Smith 2017, Cyclical Learning Rates for Training Neural Networks, arXiv 1506.01186, section 3.3; the exponential rise is
usual since. It runs in the real loop, with the recipe's own batches, optimizer, clipping and method, on a model that is
thrown away. All rates rise together, the head's in the recipe's ratio to the method's.

The rule: the loss is smoothed by a running mean; what is suggested is the rate at which it is lowest, divided by 10,
since at the lowest point learning already stops. The rate of steepest descent (of the smoothed loss over the logarithm
of the rate) stands beside it. Both are rough: the best lies mostly between the suggestion and the lowest point. Compare
in real runs. Where the loss does not fall by more than it wavers from batch to batch, nothing
is suggested.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import NotFiniteError, RecipeError
from tunesmith.events import Begun, Event, Stage, Step
from tunesmith.recipe.defaults import head_start
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.absolute import absolute
from tunesmith.run.folder import write_json
from tunesmith.run.report_parts.charts import smooth
from tunesmith.run.report_parts.rates import write_page
from tunesmith.run.setup import Learning, Ready, make_batches, set_up, settled, start_learning
from tunesmith.train.checkpoint import disk_faults
from tunesmith.train.loop import Progress, train

ABOVE = 300.0
"""The last rate, as a multiple of the recipe's own; the first is that divided by `RANGE`."""
DIVERGED = 3.0
"""The test ends where the loss has risen by this many times what it had fallen, above where it began."""
WINDOW, HIGH = 5, 4
"""Steps that the loss is averaged over to see whether it diverges, and how many of the last must lie that high."""
FEWEST, QUIET = 20, 10
"""Least steps of a test, and of its beginning that tell how the loss wavers by itself."""
FALL, SURE = 0.02, 4.0
"""A fall counts that is at least this share of the first losses, and so many standard errors of the smoothed loss; a
rise must pass as many."""


@dataclass(frozen=True, slots=True)
class RatesFound:
    """What the test saw. rates, losses, smoothed: of each step made, the rate the method's.

    suggested: lowest / 10. lowest, steepest: rates of the lowest and most steeply falling smoothed loss; None where the
    loss never fell. head_ratio: the head's rate is this times the method's. diverged: whether the loss broke away.
    recipe_rate: what the recipe would use. folder: where lr_find.json and lr_find.html are.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float | None
    lowest: float | None
    steepest: float | None
    head_ratio: float
    diverged: bool
    recipe_rate: float
    folder: Path

    @property
    def still_falling(self) -> bool:
        """Whether the lowest point is the end of the test."""
        return self.lowest is not None and self.lowest >= self.rates[-1] / 1.5

    def lines(self) -> list[str]:
        """In words."""
        ends = f"{len(self.rates)} steps, rates from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        end = "the loss broke away there" if self.diverged else "the loss never broke away"
        if self.suggested is None:
            told = "no rate is suggested: the loss did not fall by more than it wavers. More --steps may show it."
            return [f"{ends}; {end}", told]
        head = self.suggested * self.head_ratio
        return [
            f"{ends}; {end}",
            f"suggested    train.learning_rate={self.suggested:.1e} train.head_learning_rate={head:.1e}",
            f"             (the smoothed loss is lowest at {self.lowest:.1e}; that divided by 10)",
            *(["             it was still falling at the end: higher rates may do"] if self.still_falling else []),
            f"steepest at  {self.steepest:.1e}",
            f"the recipe's {self.recipe_rate:.1e}",
        ]


def lr_find(
    recipe: Recipe, *, steps: int = 100, folder: Path | None = None, on_event: Callable[[Event], None] | None = None
) -> RatesFound:
    """Run the test and write lr_find.json and lr_find.html to `folder`, else to a new one in lr-find/.

    RecipeError for fewer than 20 steps. No run folder is read or written; the model is thrown away.
    """
    if steps < FEWEST:
        raise RecipeError(f"--steps {steps} are too few to see a loss fall and rise; at least {FEWEST}, better 100.")
    tell = on_event or (lambda _event: None)
    with tempfile.TemporaryDirectory(prefix="tunesmith-lr-find-") as place:
        ready: Ready | None = None
        for found in set_up(absolute(recipe), Path(place)):
            if isinstance(found, str):
                tell(Stage(found))
            else:
                ready = found
        assert ready is not None
        ready, learning = _ramped(settled(ready), steps)
        if recipe.retention is not None:
            tell(Stage("retention is left out: the test looks at the new task's loss alone"))
        if head_start(ready.recipe) != "drawn":
            tell(
                Stage("the head begins at random values here: from its features its loss would fall too little to see")
            )
        place_of_result = folder or ready.device.agree(_folder(recipe) if ready.device.is_main else None)
        tell(Begun(place_of_result, steps, 0, {}, learning.plan.main_score, (f"raising the rate over {steps} steps",)))
        rates, losses, diverged = _raised(ready, learning, tell)
    told = read_off(rates, losses)
    train_options = ready.recipe.train
    rate, head = float(train_options.learning_rate), float(train_options.head_learning_rate)
    made = RatesFound(
        tuple(rates), tuple(losses), tuple(told["smoothed"]), told["suggested"], told["lowest"], told["steepest"],
        head / rate, diverged, rate, place_of_result,
    )  # fmt: skip
    if ready.device.is_main:
        _write(made, ready.recipe)
    return made


def _ramped(ready: Ready, steps: int) -> tuple[Ready, Learning]:
    """A learner whose rates rise from the recipe's own times ABOVE / RANGE to the recipe's own times ABOVE."""
    options = ready.recipe.train.model_copy(update={"steps": steps, "epochs": "auto"})
    ready = replace(ready, recipe=ready.recipe.model_copy(update={"train": options}))
    learning = start_learning(ready)
    for group in learning.optimizer.param_groups:
        group["peak"] *= ABOVE
    batches, _ = make_batches(ready, ready.parts["train"])
    top = learning.plan.learning_rate * ABOVE
    plan = replace(learning.plan, steps=steps, schedule="exponential", warmup=0.0, learning_rate=top)
    ready.device.precision = options.precision  # type: ignore[assignment]
    return ready, replace(learning, plan=plan, batches=batches)


def _raised(ready: Ready, learning: Learning, tell: Callable[[Event], None]) -> tuple[list[float], list[float], bool]:
    """The method's rate and the loss of every step, until the loss breaks away."""
    events = train(
        learning.model,
        learning.batches,
        loss=ready.recipe.task.loss,
        foresee=ready.recipe.task.foresee,
        learner=ready.recipe.method,
        optimizer=learning.optimizer,
        plan=learning.plan,
        progress=Progress(),
        device=ready.device,
    )
    rates: list[float] = []
    losses: list[float] = []
    try:
        for event in events:
            if isinstance(event, Step):
                tell(event)
                rates.append(event.learning_rate)
                losses.append(event.loss)
                if has_diverged(losses):
                    return rates, losses, True
    except NotFiniteError:
        if len(losses) < WINDOW:
            raise
        return rates, losses, True
    return rates, losses, False


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the last losses, but for one at most, lie above the first ones by `DIVERGED` times what they had fallen,
    by half of them at least, and by what chance makes of them besides.

    How the loss wavers is read off its changes from step to step before the last ones, so that a slow fall is none of
    it. A single high loss moves a mean, and some losses have a few such; a loss that breaks away stays up.
    """
    if len(losses) < 3 * WINDOW:
        return False
    means = np.convolve(losses, np.ones(WINDOW) / WINDOW, mode="valid")
    first = float(means[0])
    # A change holds the chance of two losses.
    error = float(np.diff(losses[:-WINDOW]).std(ddof=1)) / np.sqrt(2 * WINDOW)
    bound = first + max(DIVERGED * (first - float(means.min())), 0.5 * abs(first)) + SURE * error
    return int(np.sum(np.asarray(losses[-WINDOW:]) > bound)) >= HIGH


def read_off(rates: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
    """`smoothed` losses, and the rates `lowest`, `steepest` and `suggested`, None where the loss did not fall."""
    raw = np.asarray(losses, np.float64)
    smoothed = smooth(raw, share=0.1)
    none: dict[str, Any] = {"smoothed": smoothed.tolist(), "lowest": None, "steepest": None, "suggested": None}
    window = max(3, round(0.1 * len(raw)))
    if len(raw) < 3 * window:
        return none
    quiet = raw[: max(QUIET, len(raw) // 4)]  # the rate does nothing yet: this is how the loss wavers by itself
    first, error = float(quiet.mean()), float(quiet.std(ddof=1) / np.sqrt(window))
    bottom = window + int(smoothed[window:].argmin())
    if first - smoothed[bottom] < max(FALL * abs(first), SURE * error):
        return none
    course = smooth(smoothed, share=0.2)[window // 2 : bottom + 1]  # once more: a slope wavers more than its curve
    slopes = np.gradient(course, np.log(np.asarray(rates[window // 2 : bottom + 1])))
    lowest = float(rates[bottom])
    steepest = float(rates[window // 2 + int(slopes.argmin())])
    return {**none, "lowest": lowest, "steepest": steepest, "suggested": lowest / 10}


def _folder(recipe: Recipe) -> Path:
    """A new folder lr-find/TASK-METHOD-NUMBER."""
    name = f"{type(recipe.task).name}-{type(recipe.method).name}"
    with disk_faults(Path("lr-find")):
        for number in range(1, 1_000_000):
            path = Path("lr-find") / f"{name}-{number}"
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                continue
    raise RecipeError("lr-find/ is full; name another --output")


def _write(found: RatesFound, recipe: Recipe) -> None:
    with disk_faults(found.folder):
        found.folder.mkdir(parents=True, exist_ok=True)
    values = {**asdict(found), "folder": str(found.folder), "recipe": recipe.as_dict()}
    write_json(found.folder / "lr_find.json", values)
    write_page(found.folder / "lr_find.html", values, found.lines())
