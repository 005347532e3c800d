"""The program of a trial's process: `fit` or `resume` that can be pruned by not asking for the next event.

    python -m tunesmith.run.search.trial_process fit RECIPE --output FOLDER
    python -m tunesmith.run.search.trial_process resume FOLDER

It takes the same words as the command line's own `fit` and `resume`, leaves the same run folder and the same exit
codes (docs/exit_codes.md), and shows no progress. Where the folder has a gate (run/search/trial_folder.py) it goes on
after an evaluation only when the search has said so.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tunesmith.errors import InterruptedRun, TunesmithError
from tunesmith.events import Evaluated, Event
from tunesmith.run.search.trial_folder import gate, has_gate

WAIT: Final = 0.02
"""Seconds between two looks at the gate."""


class Pruned(InterruptedRun):
    """The search has seen enough of this trial; its state is saved."""


def wait_at_gate(folder: Path, step: int) -> None:
    """Return when the search lets the run go on after the evaluation of `step`. Pruned when it does not."""
    while True:
        decided, go_on = gate(folder)
        if decided == step and not go_on:
            raise Pruned(f"pruned by the search after step {step}")
        if decided >= step:
            return
        time.sleep(WAIT)


def work(words: Sequence[str]) -> int:
    """Make or go on with the run and give the exit code; what went wrong is written to standard error."""
    from tunesmith.recipe.recipe import Recipe
    from tunesmith.run.fit import fit, resume

    folder = Path(words[-1])

    def listen(event: Event) -> None:
        if isinstance(event, Evaluated) and has_gate(folder):
            wait_at_gate(folder, event.step)

    try:
        if words[0] == "fit":
            fit(Recipe.read(words[1]), folder, listen)
        else:
            resume(folder, listen)
    except TunesmithError as fault:
        sys.stderr.write(f"{type(fault).__name__}\n" + "".join(f"  {line}\n" for line in str(fault).splitlines()))
        return fault.exit_code
    except Exception:
        sys.stderr.write(traceback.format_exc())
        return 70
    return 0


if __name__ == "__main__":
    sys.exit(work(sys.argv[1:]))
