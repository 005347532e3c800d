"""Making the trials of a search: the default first, then what is drawn, until there are enough or the time is over.

A trial ends in one of three ways. Complete: its run is finished. Pruned: after an evaluation it lay behind the others,
and was not asked for its next event. Failed: its run ended by a fault, and the reason is kept. One that was under way
when the search ended is `running` in the book and goes on with its own run, from its newest checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tunesmith.errors import RecipeError, RunError
from tunesmith.run.folder import read_recipe
from tunesmith.run.search import trial_folder as folders
from tunesmith.run.search.book import Book
from tunesmith.run.search.checks import drawn_in
from tunesmith.run.search.defaults import filled_in
from tunesmith.run.search.launch import Ended
from tunesmith.run.search.session import Session
from tunesmith.run.search.space import Dimension, is_active, settings
from tunesmith.run.search.trials import Trial, Trials


def begin(session: Session) -> Trials:
    """Start the default, wait until it is resolved, write down the space around it and the first trial. RunError when
    the recipe itself does not run, or has no validation examples."""
    book, first = session.book, session.book.trial(0)
    if book.main is None:
        session.say("trial 0 is the recipe as it is")
        if not folders.is_resolved(first):
            session.crew.start(book.base, first)
        while not folders.is_resolved(first):
            for ended in session.crew.ended():
                if not folders.is_resolved(first):
                    raise RunError(f"the recipe itself does not run, so no change of it was tried:\n{ended.reason}")
            session.breathe()
        book = session.book = _settled(book, first)
    assert book.main is not None
    assert book.space is not None
    directions = ["maximize" if book.main.better == "higher" else "minimize", *["minimize"] * book.forgetting]
    trials = Trials(book.folder, directions, seed=book.recipe.train.seed, pruning=book.pruning)
    if not len(trials):
        drawn = drawn_in(book.space, read_recipe(first), book.recipe)
        fills = all(d.name in drawn for d in book.space if is_active(d, {}, book.recipe))
        trials.add(drawn if fills else {}, (), book.space)
    for dimension in book.space:
        session.say(f"  {dimension.name}: {dimension.says()} ({dimension.why})")
    return trials


def _settled(book: Book, first: Path) -> Book:
    manifest = folders.manifest_of(first)
    if not manifest["data"]["summary"]["split_sizes"].get("validation"):
        raise RunError(
            "a search judges its trials by validation examples, and there are none: set data.split.validation, or "
            "give data.validation a file."
        )
    main = book.recipe.task.main_score(multi_label=bool(manifest["multi_label"]))
    space = filled_in(book.asked, book.recipe, read_recipe(first))
    return book.settled(space, main, str(manifest["split"]["validation"]))


OTHER_EXAMPLES: Final = "its validation examples are not those of the default, so scores cannot be compared"


class TrialWork:
    """The trials under way."""

    def __init__(self, session: Session, trials: Trials) -> None:
        assert session.book.main is not None
        assert session.book.space is not None
        self.session, self.trials, self.book = session, trials, session.book
        self.main = session.book.main
        self.space: tuple[Dimension, ...] = session.book.space
        self._looked: dict[int, int] = {}  # trial -> evaluations that were judged
        self._bytes: dict[int, int] = {}  # trial -> size of its events when it was looked at
        self._courses: dict[int, folders.Course] = {}
        self._over = False

    def run(self) -> None:
        """Until there are enough trials, nothing new to try, or no time."""
        crew = self.session.crew
        while True:
            for ended in crew.ended():
                self._ended(ended)
            for folder in crew.folders():
                self._look(int(folder.name))
            if not self._out_of_time():
                self._start_more()
            if not len(crew):
                return
            self.session.breathe()

    def _start_more(self) -> None:
        crew = self.session.crew
        if len(crew) >= self.session.limits.jobs:
            return
        waiting = [t for t in self.trials.running() if self.book.trial(t.number) not in crew]
        while len(crew) < self.session.limits.jobs:
            if waiting:
                trial: Trial | None = waiting.pop(0)
            else:
                trial = self._new()
            if trial is None:
                return
            self._start(trial)

    def _new(self) -> Trial | None:
        """The next trial, written down; None when there are enough or nothing is left to try."""
        session = self.session
        count = len(self.trials)
        if self._over or count >= session.limits.trials:
            return None
        if session.clock.left() - session.reserve() < session.expected():
            self._say_once(f"no time for another trial after {count}; the rest is for the confirmation")
            return None
        drawn = self.trials.draw(self.space, self.book.recipe)
        if drawn is None:
            self._say_once(f"nothing new is left to try in this space after {count} trials")
            return None
        return self.trials.add(drawn, settings(self.space, drawn), self.space)

    def _start(self, trial: Trial) -> None:
        """Go on with a trial: begin its run, go on with it, or note what it came to before the search ended."""
        number, folder = trial.number, self.book.trial(trial.number)
        if folders.is_finished(folder):
            self._finished(number)
            return
        try:
            recipe = self.book.base.changed(*trial.settings)
        except RecipeError as error:
            self._end(number, "failed", reason=str(error))
            return
        gated = number > 0 and self.book.pruning != "none" and not self.book.forgetting
        if gated and not folders.has_gate(folder):
            folders.set_gate(folder, 0, go_on=True)
        self._looked.pop(number, None)
        self._bytes.pop(number, None)
        if self._look(number) or not self._is_comparable(number):
            self._leave(number)
            return
        going_on = "going on with " if folders.is_resolved(folder) and number else ""
        self.session.say(f"{going_on}trial {number}: {' '.join(trial.settings) or 'the recipe as it is'}")
        self.session.crew.start(recipe, folder)

    def _look(self, number: int) -> bool:
        """Judge what is new of a trial, and let it go on or not; whether it is pruned."""
        folder = self.book.trial(number)
        decided, go_on = folders.gate(folder)
        size = folders.written(folder)
        if not go_on or size == self._bytes.get(number, 0):
            return not go_on
        self._bytes[number] = size
        course = self._courses.setdefault(number, folders.Course(folder)).read()
        if len(course) <= self._looked.get(number, 0):  # fewer: it goes on from a checkpoint before those judged
            return False
        self._looked[number] = len(course)
        last = course[-1]
        if number == 0 and self.book.forgetting and not folders.lost_at(last.scores):
            raise RunError(
                "forgetting is an objective, but the recipe's own evaluations score no old task, so no trial could be "
                "judged by it: name one in forgetting.old_tasks that this task and model can be asked about."
            )
        comparable = self._is_comparable(number)
        step = self.trials.judge(number, course, self.main.name, decided) if comparable else last.step
        self.session.say(f"  trial {number} at {last.share} %: {self.main.name} {last.scores[self.main.name]:.4f}")
        if folders.has_gate(folder):
            folders.set_gate(folder, step if step is not None else last.step, go_on=step is None)
            if step is not None:
                self.session.crew.expect_stop(folder)
        elif not comparable:
            self.session.crew.ask(folder)
        return step is not None

    def _is_comparable(self, number: int) -> bool:
        """Whether a trial is scored on the validation examples of the default, as far as its manifest tells yet."""
        folder = self.book.trial(number)
        if not folders.is_resolved(folder):
            return True
        return bool(folders.manifest_of(folder)["split"]["validation"] == self.book.validation)

    def _leave(self, number: int) -> None:
        """Note why a trial does not go on that was told to stop."""
        if self._is_comparable(number):
            self._end(number, "pruned", reason=self._why(number))
        else:
            self._end(number, "failed", reason=OTHER_EXAMPLES)

    def _ended(self, ended: Ended) -> None:
        number = int(ended.folder.name)
        stopped = self._look(number) or not self._is_comparable(number)
        if ended.state != "stopped":
            self.session.took.append(ended.seconds)
        if ended.state == "finished":
            self._finished(number)
        elif stopped:
            self._leave(number)
        elif ended.state == "failed":
            self._end(number, "failed", reason=ended.reason)

    def _finished(self, number: int) -> None:
        folder = self.book.trial(number)
        try:
            found = folders.delivered(folder, self.main, forgetting=self.book.forgetting)
            if not self._is_comparable(number):
                raise ValueError(OTHER_EXAMPLES)
        except ValueError as error:
            self._end(number, "failed", reason=str(error))
            return
        self._look(number)
        self._end(number, "complete", (found.score, *([] if found.forgotten is None else [found.forgotten])))

    def _end(self, number: int, state: str, values: tuple[float, ...] = (), *, reason: str = "") -> None:
        folder = self.book.trial(number)
        seconds = folders.seconds_of(folder)
        self._courses.pop(number, None)
        if not folders.is_finished(folder):  # pruned or failed: it never goes on
            folders.clear(folder)  # before it is written down: after `kill -9` in between it is ended once more
        self.trials.end(number, state, values, reason=reason, seconds=seconds)  # type: ignore[arg-type]
        shown = f"{self.main.name} {values[0]:.4f}" if values else reason.split("\n", 1)[0]
        shown += f", forgotten {values[1]:+.4f}" if len(values) > 1 else ""
        self.session.say(f"trial {number} {state}: {shown}")

    def _why(self, number: int) -> str:
        step, _ = folders.gate(self.book.trial(number))
        at = next((seen for seen in folders.course(self.book.trial(number)) if seen.step == step), None)
        behind = "" if at is None else f" at {at.share} % of it, with {self.main.name} {at.scores[self.main.name]:.4f}"
        return f"not promising after step {step}{behind}"

    def _out_of_time(self) -> bool:
        """Whether the time for trials is over; those under way are then asked to save and leave, the default only when
        there is no time at all."""
        left = self.session.clock.left()
        if left > self.session.reserve():
            return False
        self._say_once(f"no time for another trial after {len(self.trials)}; the rest is for the confirmation")
        for folder in self.session.crew.folders():
            if folder != self.book.trial(0) or left <= 0:
                self.session.crew.ask(folder)
        return True

    def _say_once(self, why: str) -> None:
        """No trial is begun any more."""
        if not self._over:
            self._over = True
            self.session.say(why)
