"""The spine: from a recipe to a proven run folder. READ THIS FIRST.

recipe -> folder and lock -> data, model, method -> score of the untouched model -> preflight -> loop -> score of the
best state -> what is delivered, card, report. `fit`, `resume` and `stream` are one path; a fresh run is a resumed one
whose folder is empty.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tunesmith.errors import InterruptedRun, RunError, TunesmithError
from tunesmith.evaluate.evaluate import score
from tunesmith.events import Begun, Evaluated, Event, Stage, Step
from tunesmith.methods.base import moving_statistics
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import finish, preflight
from tunesmith.run.absolute import absolute
from tunesmith.run.answered import answered_before, asks
from tunesmith.run.features import on_features, start_head
from tunesmith.run.folder import (
    EventLog,
    Finished,
    agreed_folder,
    locked,
    open_run,
    read_recipe,
    remove_failed_start,
    shared_by_all,
    write_recipe,
)
from tunesmith.run.forecast import keep_forecast
from tunesmith.run.forgotten import Guard, admits, at_evaluation, guard, untouched
from tunesmith.run.manifest import check_same, manifest, write_known
from tunesmith.run.setup import Learning, Ready, set_up, settled, start_learning
from tunesmith.run.spent import Spent, spent_in
from tunesmith.run.stopping import Stop, stop_on_signals
from tunesmith.run.tensorboard import Board
from tunesmith.train.averaging import Average
from tunesmith.train.checkpoint import newest_checkpoint, prune, restore_tensors, save_checkpoint
from tunesmith.train.device import Device
from tunesmith.train.loop import Progress, train
from tunesmith.train.memory import Growth, told_where_memory_ends
from tunesmith.train.optimizer import optimizer_state, restore_optimizer

KEPT = 2  # newest checkpoints that stay while training


def fit(recipe: Recipe, folder: Path | None = None, on_event: Callable[[Event], None] | None = None) -> Finished:
    """Fine-tune as the recipe says; `on_event` sees every event. Errors end the run as `errors.py` says."""
    place = agreed_folder(Device(), recipe, folder)
    for event in _events(absolute(recipe), place):
        if on_event is not None:
            on_event(event)
    return open_run(place)


def resume(folder: Path, on_event: Callable[[Event], None] | None = None) -> Finished:
    """Go on with an interrupted run, bit for bit as if it had not stopped. A finished run is returned as it is."""
    recipe = read_recipe(Path(folder))
    if not (Path(folder) / "scores.json").is_file():
        for event in _events(recipe, Path(folder)):
            if on_event is not None:
                on_event(event)
    elif on_event is not None:
        on_event(Stage(f"{folder} is finished already; nothing is left to do"))
    return open_run(folder)


def stream(recipe: Recipe, folder: Path | None = None) -> Iterator[Event]:
    """As `fit`, as a generator: not asking for the next event pauses the run, closing it stops it resumably."""
    yield from _events(absolute(recipe), agreed_folder(Device(), recipe, folder))


def _events(recipe: Recipe, folder: Path) -> Iterator[Event]:
    device = Device()
    main, work = device.is_main, folder / ".work"
    with locked(folder, hold=main), stop_on_signals() as stop, told_where_memory_ends():
        if main and not (folder / "manifest.json").exists():
            write_recipe(folder, recipe, {})
        shared_by_all(device, folder)
        ready: Ready | None = None
        try:
            for found in set_up(recipe, work):
                if isinstance(found, str):
                    yield Stage(found)
                else:
                    ready = found
        except TunesmithError as fault:
            if main and fault.exit_code == TunesmithError.exit_code:
                remove_failed_start(folder)
            raise
        assert ready is not None
        finish.keep_quarantine(ready, folder)
        known = manifest(ready)
        check_same(folder, known)
        ready.device.wait()
        if main:
            write_known(folder, ready.recipe, known)

        ready.device.precision = "float32"  # scores before and after are those of the delivered form
        yield Stage("scoring the untouched model")
        spent = spent_in(folder, writes=main)
        with spent.on("before"):
            before = finish.score_before(ready, folder)
        if asks(ready):
            yield Stage("letting the untouched model answer in words")
        with spent.on("answers"):
            answered_before(ready, folder)
        if ready.recipe.forgetting.old_tasks:
            yield Stage("scoring old tasks with the untouched model")
        with spent.on("old_tasks"):
            old = untouched(ready, folder)
        for words in old.skipped:
            yield Stage(words)
        checkpoint, damaged = newest_checkpoint(folder / "checkpoints")
        for words in damaged:
            yield Stage(f"passing over a damaged checkpoint: {words}")
        yield Stage("preparing the method")
        ready = settled(ready)
        if main:
            known["origins"] |= ready.origins
            write_known(folder, ready.recipe, known)
        learning = start_learning(ready)
        if ready.recipe.retention is not None:
            yield Stage(f"preparing retention: {type(ready.recipe.retention).name}")
        guarded = guard(ready, learning, old)
        if guarded.held is not None and not guarded.held.learned:
            yield Stage("only the head learns, so nothing old can be lost: the retention has nothing to hold")
        ready.device.precision = ready.recipe.train.precision  # type: ignore[assignment]

        progress = Progress()
        method = ready.recipe.method
        average = Average(learning.learned, ready.recipe.train.average)
        if checkpoint is None:
            yield Stage("trying everything once (preflight)")
            found_faults = preflight.examine(
                ready, learning, work / f"process-{ready.device.rank}", penalty=guarded.penalty, spent=spent.seconds
            )
            if main and found_faults.forecast is not None:
                keep_forecast(found_faults.forecast, folder)
            lines = found_faults.lines()
            if not found_faults.ok:
                raise RunError("\n".join(["preflight failed; nothing was trained:", *lines]))
            length = 0
        else:
            restore_tensors(learning.learned, checkpoint.tensors["learned"], what=str(checkpoint.folder))
            method.restore(learning.model, checkpoint.tensors["method"])
            restore_optimizer(learning.optimizer, learning.learned, checkpoint.tensors["optimizer"])
            average.restore(checkpoint.tensors["average"] if average.tensors else {})
            progress = Progress(**checkpoint.values["progress"])
            lines = [f"going on after step {progress.step}"]
            length = int(checkpoint.values["events_bytes"])
        log = EventLog(folder / "events.jsonl", length, writes=main)
        yield Begun(folder, learning.plan.steps, progress.step, before, learning.plan.main_score, tuple(lines))
        yield from _train(ready, learning, guarded, progress, average, log, folder, stop, spent)

        stop.wait = False
        if ready.recipe.forgetting.at_most is not None and not progress.best_step:
            most = ready.recipe.forgetting.at_most
            yield Stage(f"every evaluated state forgot more than forgetting.at_most ({most:g}); the last is delivered")
        yield Stage("scoring the fine-tuned model")
        finish.finish(ready, learning, guarded, progress, average, folder, spent)
        if main:
            shutil.rmtree(work, ignore_errors=True)
        ready.device.wait()


def _train(
    ready: Ready,
    learning: Learning,
    guarded: Guard,
    progress: Progress,
    average: Average,
    log: EventLog,
    folder: Path,
    stop: Stop,
    spent: Spent,
) -> Iterator[Event]:
    """The loop's events, logged; checkpoints between them; early stopping; a signal's wish to stop."""
    options, device, plan = ready.recipe.train, ready.device, learning.plan
    of_old = at_evaluation(ready, learning, guarded)
    with spent.on("training"):
        looping, taught, held = on_features(ready, learning, folder / ".work") or (
            learning, ready.parts["train"], ready.parts["validation"])  # fmt: skip
        words = [] if progress.step else start_head(ready, learning, taught, average)
    yield from map(Stage, words)

    def evaluate() -> dict[str, float]:
        scoring = {"task": ready.recipe.task, "processor": ready.pretrained.processor, "device": device}
        with average.in_place():
            found: dict[str, float] = score(looping.model, held, **scoring) | (of_old() if of_old else {})
        return device.agree(found)  # type: ignore[no-any-return]

    events = train(
        looping.model,
        looping.batches,
        loss=ready.recipe.task.loss,
        foresee=ready.recipe.task.foresee,
        learner=ready.recipe.method,
        optimizer=learning.optimizer,
        plan=plan,
        progress=progress,
        device=device,
        evaluate=evaluate if len(held.encoded) else None,
        admits=admits(ready),
        penalty=guarded.penalty,
        statistics=[s for s in moving_statistics(looping.model).values() if s.is_floating_point()],
    )
    patience, growth = options.early_stopping, Growth()
    stop.wait = True
    with Board(folder, wanted=options.tensorboard and device.is_main) as board:
        if patience is not None and progress.evaluations_since_best >= patience:
            return
        for event in events:
            if isinstance(event, Step):
                average.update(event.step)
                growth.look()
            else:
                spent.add("evaluations", event.seconds)
            log.add(event)
            board.add(event)
            asked = device.any_process(stop.asked)
            due = isinstance(event, Evaluated) or event.step % int(options.checkpoint_every) == 0
            if asked or (not progress.owed and (due or event.step == plan.steps)):
                with spent.on("checkpoints"):
                    _save(ready, learning, progress, average, log, folder)
            yield event
            if asked:
                raise InterruptedRun(f"stopped at step {progress.step}; go on with: tunesmith resume {folder}")
            if isinstance(event, Evaluated) and patience is not None and progress.evaluations_since_best >= patience:
                return


def _save(ready: Ready, learning: Learning, progress: Progress, average: Average, log: EventLog, folder: Path) -> None:
    if not ready.device.is_main:
        return
    tensors = {
        "learned": dict(learning.learned),
        "method": ready.recipe.method.state(learning.model),
        "optimizer": optimizer_state(learning.optimizer, learning.learned),
        **({"average": average.tensors} if average.tensors else {}),
    }
    values = {"progress": asdict(progress), "events_bytes": log.length()}
    save_checkpoint(folder / "checkpoints", progress.step, tensors, json.loads(json.dumps(values)))
    prune(folder / "checkpoints", keep=KEPT, always={progress.best_step})
