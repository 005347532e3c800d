"""Pretrained models at hand: in folders that are named, in installed pip packages, in the local caches. No network.

A package is found by the list of its files and never imported. What lies in a place that was named and cannot be used
is told with its reason; in packages and caches only what can be used counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.models.cards import ModelCard, card_of_file, card_of_folder
from tunesmith.places import resolve_place

DEEPEST = 6
"""Folders below a named one that are looked into."""

SKIPPED = ("onnx", "openvino", "coreml", "checkpoints", "__pycache__", "node_modules", "1_Pooling")
"""Folders that hold second copies of a model, states of its training, or none."""

SUFFIXES = (".pth", ".pt", ".safetensors", ".gguf")
NOT_READ = (".th", ".bin", ".ckpt", ".h5", ".onnx", ".tflite")
"""Endings of weight files in a form that is not read."""

_PUBLISHED = re.compile(r"-[0-9a-f]{8}\.(?:pth|pt|safetensors)$")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that is not compared, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class AtHand:
    """Every model found, once each, and what was found and cannot be used."""

    cards: tuple[ModelCard, ...]
    left_out: tuple[LeftOut, ...]


def find_candidates(places: Sequence[str] = (), *, everywhere: bool = True) -> AtHand:
    """Models in `places` (folders, weight files, `package:NAME/...`), and with `everywhere` those in installed pip
    packages, the Hugging Face cache and torch's cache of weight files.

    RecipeError or ModelError for a named place that does not exist or holds no model at all.
    """
    cards: dict[str, ModelCard] = {}
    left_out: list[LeftOut] = []
    for place in places:
        there = list(_in_place(place))
        left_out += [found for found in there if isinstance(found, LeftOut)]
        for found in there:
            if isinstance(found, ModelCard):
                cards.setdefault(_key(found), found)
        if not there:
            raise ModelError(
                f"{place} holds no model: no folder with config.json and weights, no weight file "
                f"({', '.join(SUFFIXES)})."
            )
    if everywhere:
        for card in (*_in_packages(), *_in_hub_cache(), *_in_torch_cache()):
            cards.setdefault(_key(card), card)
    return AtHand(tuple(cards.values()), tuple(left_out))


def _key(card: ModelCard) -> str:
    return os.path.realpath(card.path)


def _in_place(place: str) -> Iterator[ModelCard | LeftOut]:
    root = Path(resolve_place(place)).expanduser()
    where = f"named: {place}"
    if not root.exists():
        raise ModelError(
            f"There is nothing at {place}. Name a folder with models, a weight file, or package:NAME/path. A name on "
            "the hub is not asked for here: fetch it first with `hf download`, then it is found in the local cache."
        )
    if root.is_file():
        root = root.parent if root.name in ("config.json", "model.safetensors") else root
    for found in [root] if root.is_file() else _models_below(root, DEEPEST):
        inside = "" if found == root else f"/{found.relative_to(root).as_posix()}"
        name = f"{place.rstrip('/')}{inside}" if place.startswith("package:") else str(found)
        try:
            if found.suffix in NOT_READ and found.is_file():
                raise ModelError(f"weights are read from {', '.join(SUFFIXES)} files and from model folders")
            yield card_of_file(found, name, where) if found.is_file() else card_of_folder(found, name, where)
        except TunesmithError as reason:
            yield LeftOut(name, " ".join(str(reason).split()))


def _models_below(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders and bare weight files, parents first; a model's own folders are not looked into."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    if {"config.json", "adapter_config.json"} & {entry.name for entry in entries}:
        yield folder
        return
    yield from (entry for entry in entries if entry.suffix in (*SUFFIXES, *NOT_READ) and entry.is_file())
    if depth:
        for entry in entries:
            if (
                entry.is_dir()
                and not entry.is_symlink()
                and not entry.name.startswith(".")
                and entry.name not in SKIPPED
            ):
                yield from _models_below(entry, depth - 1)


def _in_packages() -> Iterator[ModelCard]:
    """Installed packages that bring a model folder, a GGUF file, or a weight file under a published name."""
    for package in distributions():
        label = f"pip package {package.metadata['Name']}"
        for file in package.files or ():
            if file.suffix not in SUFFIXES or len(file.parts) < 2 or not file.parts[0].isidentifier():
                continue
            path = Path(str(package.locate_file(file)))
            if file.name == "model.safetensors":
                yield from _usable([path.parent], f"package:{file.parent.as_posix()}", label)
            elif _PUBLISHED.search(file.name) or file.suffix == ".gguf":
                yield from _usable([path], f"package:{file.as_posix()}", label)


def _in_hub_cache() -> Iterator[ModelCard]:
    """Models in the local Hugging Face cache under their hub names; nothing is asked of the hub."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir()
    except (CacheNotFound, OSError):
        return
    for repository in sorted(found.repos, key=lambda each: str(each.repo_id)):
        if repository.repo_type != "model":
            continue
        # What a plain name means is `main`; without it, the copy that came last, by its folder.
        revisions = sorted(repository.revisions, key=lambda each: ("main" not in each.refs, -each.last_modified))
        for revision in revisions[:1]:
            name = str(repository.repo_id) if "main" in revision.refs else str(revision.snapshot_path)
            yield from _usable([Path(revision.snapshot_path)], name, "Hugging Face cache")


def _in_torch_cache() -> Iterator[ModelCard]:
    """Weight files that torchvision or timm fetched earlier."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    folder = Path(home).expanduser() / "hub" / "checkpoints"
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if _PUBLISHED.search(file.name):
            yield from _usable([file], str(file), "torch's cache")


def _usable(paths: Iterable[Path], name: str, where: str) -> Iterator[ModelCard]:
    for path in paths:
        try:
            yield card_of_file(path, name, where) if path.is_file() else card_of_folder(path, name, where)
        except (TunesmithError, OSError):
            continue  # nobody named it: a folder of a package that is no model is no candidate
