"""Learning on from an earlier run: the whole model that a finished run's folder stands for.

A run that delivers a whole model is started from as it is. One that delivers an adapter is merged into its base once,
into RUN/merged, in the library's own form; merged.json beside the weights tells what it was made from, by sha256.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError, RunError
from tunesmith.methods.base import Method
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.base_model import find_base
from tunesmith.run.folder import open_run, read_recipe, write_json
from tunesmith.train.checkpoint import disk_faults, file_sha256

BEST, MERGED, MADE_FROM, WAYS = "best", "merged", "merged.json", "generation_config.json"
_BEING_MADE, _LOCK = ".merging", ".merged.lock"
_CAN = (
    "full, linear_probe_then_full, head, last_blocks, bitfit, norm_tuning, lora, ia3, oft, adapter, vera, loha, lokr "
    "or adalora"
)


def run_of(name: str) -> Path | None:
    """The run folder that a model's name means: the run itself, its best/ or its merged/; None for any other model."""
    path = Path(name).expanduser()
    places = (path, path.parent) if path.name in (BEST, MERGED) else (path,)
    return next((p for p in places if (p / "recipe.yaml").is_file() and not (p / "config.json").is_file()), None)


def model_of(name: str) -> str:
    """The folder of a whole model to start from where `name` is a finished run, else `name` as it is.

    A run's adapter is merged into its base when this is first asked for (RUN/merged), and again when what is there no
    longer fits. RunError for a run that has not finished; ModelError where its method cannot be merged, or its base is
    gone or another.
    """
    folder = run_of(name)
    if folder is None:
        return name
    open_run(folder)
    best = folder / BEST
    if not best.is_dir():
        raise RunError(f"{folder} has no {BEST}/, so what it learned is gone. Put it back, or fit it again.")
    return str(best if not _adapter_files(best) else _merged(folder))


def _adapter_files(best: Path) -> list[Path]:
    """The files that hold an adapter; none where a whole model stands (a detector's adapter lies in its own folder)."""
    from tunesmith.models.vision_files import ADAPTERS

    if not any((best / name).is_file() for name in ADAPTERS):
        return []
    kept = {"config.json", "adapter_model.safetensors", WAYS, *ADAPTERS}
    return sorted(path for path in best.iterdir() if path.name in kept)


def _merged(folder: Path) -> Path:
    """RUN/merged, whole and up to date. Of several processes one makes it, and the others wait."""
    recipe, target = read_recipe(folder), folder / MERGED
    _check_mergeable(folder, recipe.method)
    facts = _made_from(folder, recipe)
    with _alone(folder):
        if not _fits(target, facts):
            fresh = folder / _BEING_MADE
            with disk_faults(folder):
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir()
                _write(folder, recipe, fresh)
            files = {p.name: file_sha256(p) for p in sorted(fresh.iterdir())}
            write_json(fresh / MADE_FROM, {**facts, "files": files})
            with disk_faults(folder):
                shutil.rmtree(target, ignore_errors=True)
                os.rename(fresh, target)
    return target


def _check_mergeable(folder: Path, method: Method) -> None:
    """ModelError for a method whose adapter no plain model can hold: what it learned is on or off."""
    if type(method).merge is Method.merge or not method.has_line:
        raise ModelError(
            f"model: {folder} was made by {type(method).name}, whose learned tokens are inputs of the model and not "
            f"weights, so there is no whole model to learn on from. Fit it with a method that leaves one: {_CAN}. Or "
            f"start from its base again and name the run under forgetting.old_tasks, to see what is lost of it."
        )


def _made_from(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What decides the merged weights: the adapter's files, and the base's by the run's manifest."""
    base = _base(folder)
    return {
        "method": type(recipe.method).name,
        "adapter": {path.name: file_sha256(path) for path in _adapter_files(folder / BEST)},
        "base": {"name": base["name"], "path": base["path"], "sha256": base["sha256"]},
    }


def _base(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder}/manifest.json, which tells the run's base model, cannot be read: {error}") from error
    return found


def _fits(target: Path, facts: dict[str, Any]) -> bool:
    """Whether what stands there was made from these files, and is as it was written."""
    try:
        told = json.loads((target / MADE_FROM).read_text(encoding="utf-8"))
        files = told.pop("files")
        weights = any(name.endswith(".safetensors") for name in files)
        if WAYS not in told["adapter"]:  # older: runs that began from it hold to its config.json
            facts = {**facts, "adapter": {n: sha256 for n, sha256 in facts["adapter"].items() if n != WAYS}}
        return weights and told == facts and all(file_sha256(target / name) == sha256 for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _write(folder: Path, recipe: Recipe, fresh: Path) -> None:
    """The merged model, its processor, and a card with the licence, through the libraries' own means."""
    import torch

    from tunesmith.models.causal import read_causal
    from tunesmith.models.quiet import quiet

    best, base = folder / BEST, _base(folder)
    model_of(base["path"])  # a base that was itself merged from a run is made again if it was cleared away
    with torch.random.fork_rng(devices=[]), quiet():  # heads that are drawn only to be overwritten
        if recipe.task.in_tokens:
            _check_base(folder, base, recipe)
            read = partial(read_causal, to_merge=True) if recipe.task.goes_on else recipe.task.read
            trained, processor = read(best)
            plain: Any = recipe.method.merge(trained)
            _write_language(plain, processor, best, fresh)
        else:
            from peft import PeftModel

            from tunesmith.models.vision_files import read_base, write_model

            pretrained = read_base(best)
            trained = PeftModel.from_pretrained(pretrained.model, str(best))
            write_model(recipe.method.merge(trained), fresh, pretrained)
    _write_card(folder, best, fresh)


def _write_language(plain: Any, processor: Any, best: Path, fresh: Path) -> None:
    """A merged model that reads tokens, and its tokenizer. One that writes is told to pad and to stop as what the run
    delivered is: the base knows none of the tokens with which the run's chat template ends an answer."""
    writes = (best / WAYS).is_file()
    if writes:
        plain.config.pad_token_id = processor.pad_token_id
        plain.generation_config = type(plain.generation_config)()  # the base's; the run's own takes its place below
    plain.save_pretrained(fresh)
    processor.save_pretrained(fresh)
    if writes:
        shutil.copyfile(best / WAYS, fresh / WAYS)


def _check_base(folder: Path, base: dict[str, Any], recipe: Recipe) -> None:
    """ModelError unless every file that the adapter was trained on is still there, byte for byte; of a GGUF file, and
    of a base in few bits, the folder in the cache, which is made again where it was cleared away."""
    if Path(base["name"]).suffix.lower() == ".gguf" or recipe.model.bits:
        if not (Path(base["path"]) / "config.json").is_file():
            _make_again(folder, base, recipe)
        return
    for name, expected in base["sha256"].items():
        file = Path(base["path"]) / name
        if not file.is_file():
            raise ModelError(
                f"model: {folder} holds an adapter of {base['name']}, but {file} is no longer there. Put it back, and "
                "the two can be merged to learn on from."
            )
        if file_sha256(file) != expected:
            raise ModelError(
                f"model: {folder} holds an adapter that was trained on another {file}: its sha256 has changed. Merged "
                f"with these weights it would answer otherwise; bring back the file that {folder}/manifest.json tells "
                "of."
            )


def _make_again(folder: Path, base: dict[str, Any], recipe: Recipe) -> None:
    """ModelError where the base's files are gone, are others, or the cache has moved to where the adapter does not
    look."""
    found = find_base(recipe.task, recipe.model, model_of(base["name"]))
    if found.sha256 != base["sha256"] or found.path != base["path"]:
        raise ModelError(
            f"model: {folder} holds an adapter of {base['name']}, worked out in {base['path']}, which is gone; what "
            f"those files give today lies in {found.path}. Bring the same files back, with the same TUNESMITH_CACHE."
        )


def _write_card(folder: Path, best: Path, fresh: Path) -> None:
    """README.md: the front matter of the run's own card, with its licence, and a word on where this came from."""
    card = best / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = text.split("\n---\n", 1)[0] + "\n---\n" if text.startswith("---\n") and "\n---\n" in text else ""
    words = (
        f"The adapter of the run {folder.name}, merged into its base model. `{MADE_FROM}` tells the files by sha256."
    )
    (fresh / "README.md").write_text(f"{head}\n{words}\n", encoding="utf-8")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process merges this run; a lock of a process that died is gone with it."""
    with disk_faults(folder):
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
