"""Finding a pretrained picture model: timm/NAME, torchvision/NAME, a hub name, a folder, or a weight file.

Nothing is loaded here, and nothing is fetched unless the person named weights that are not on this machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models.source import locate
from tunesmith.models.vet import read_config
from tunesmith.models.vision_cards import Card, card_of
from tunesmith.places import resolve_place
from tunesmith.types import ModelSource

DRAWN = "drawn"
"""What `ModelSource.weights` says where every weight is drawn from the seed, although a folder may hold some."""

PICKLED = (".pth", ".pt")
LICENCE_TORCHVISION = "BSD-3-Clause"
_INSTEAD = "Give a weight file (weights: FILE), or train from scratch (pretrained: false)."


def locate_vision(
    name: str, revision: str | None = None, weights: str | None = None, pretrained: bool = True
) -> ModelSource:
    """Find the picture model a person named, on this machine if it is there.

    name: `timm/NAME`, `torchvision/NAME`, a hub name, a folder, a weight file that is known by its sha256, or
    `package:NAME/...`. revision: for hub names. weights: a weight file of the architecture that `name` tells.
    pretrained: False to draw every weight from the seed; then nothing is fetched.
    Raises ModelError where the name means nothing, or what it means is neither here nor can be fetched.
    """
    if weights is not None and not pretrained:
        raise ModelError("weights: FILE and pretrained: false exclude each other. Leave out one of them.")
    path = Path(resolve_place(name)).expanduser()
    library, _, architecture = name.partition("/")
    if library in ("timm", "torchvision") and architecture and not path.exists():
        return _of_library(name, library, architecture, revision, weights, pretrained)
    if path.is_file() and path.name not in ("config.json", "model.safetensors"):
        return _of_file(name, path, revision, weights, pretrained)
    source = _of_folder(locate(name, revision) if pretrained else _without_weights(name, path, revision))
    if not pretrained:
        kept = {file: sha256 for file, sha256 in source.sha256.items() if ".safetensors" not in file}
        return replace(source, weights=DRAWN, sha256=kept)
    return source if weights is None else _with_weights(source, weights)


def is_drawn(source: ModelSource) -> bool:
    """Whether every weight is to be drawn from the seed."""
    return source.weights == DRAWN or (not source.weights and not Path(source.path).is_dir())


def card_of_source(source: ModelSource) -> Card | None:
    """The card of the weight file that a source names, by the sha256 found when it was located."""
    sha256 = source.sha256.get(Path(source.weights).name) if source.weights else None
    return card_of(sha256) if sha256 else None


def check_architecture(library: str, architecture: str) -> None:
    """ModelError, with the nearest name, unless the library has this classifier (timm names may carry a tag)."""
    if library == "torchvision":
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        if architecture.lower() not in known:
            raise ModelError(
                f"torchvision has no classifier {architecture}.{did_you_mean(architecture.lower(), known)} "
                "`torchvision.models.list_models(module=torchvision.models)` lists them."
            )
        return
    import timm

    plain, _, tag = architecture.partition(".")
    if not timm.is_model(plain):
        hint = did_you_mean(plain, timm.list_models())
        raise ModelError(f"timm has no model {plain}.{hint} `timm.list_models()` lists them.")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        raise ModelError(
            f"timm has no weights {tag} of {plain}.{did_you_mean(tag, tags)} It has: {', '.join(tags) or 'none'}."
        )


def _of_library(
    name: str, library: str, architecture: str, revision: str | None, weights: str | None, pretrained: bool
) -> ModelSource:
    architecture = architecture.lower() if library == "torchvision" else architecture
    check_architecture(library, architecture)
    bare = ModelSource(name, f"{library}/{architecture}", library=library, architecture=architecture)
    if revision is not None and (library == "torchvision" or weights is not None or not pretrained):
        raise ModelError(f"revision: {revision} belongs to weights on the hub, and none are fetched. Leave it out.")
    if not pretrained:
        return replace(bare, weights=DRAWN)
    if weights is not None:
        return _with_weights(bare, weights)
    return _timm_pretrained(bare, revision) if library == "timm" else _torchvision_pretrained(bare)


def _timm_pretrained(bare: ModelSource, revision: str | None) -> ModelSource:
    import timm

    config = timm.get_pretrained_cfg(bare.architecture)
    if config is None or not config.hf_hub_id:
        others = timm.list_pretrained(f"{bare.architecture.partition('.')[0]}*")[:6]
        near = f" These have some: {', '.join(others)}." if others else ""
        raise ModelError(f"timm offers no weights of {bare.architecture} on the hub.{near} {_INSTEAD}")
    try:
        found = locate(config.hf_hub_id, revision)
    except ModelError as error:
        raise ModelError(f"The weights of {bare.name} are not on this machine. {error} {_INSTEAD}") from error
    return replace(_of_folder(found), name=bare.name, licence=found.licence or config.license)


def _torchvision_pretrained(bare: ModelSource) -> ModelSource:
    import torch
    import torchvision

    entry = getattr(torchvision.models.get_model_weights(bare.architecture), "DEFAULT", None)
    if entry is None:
        raise ModelError(f"torchvision offers no weights of {bare.architecture}. {_INSTEAD}")
    file = Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            expected = file.stem.rpartition("-")[2]  # download_url_to_file compares it with the sha256
            torch.hub.download_url_to_file(entry.url, str(file), hash_prefix=expected, progress=False)
        except Exception as error:  # what a missing network raises differs from one to the next
            raise ModelError(
                f"The weights of {bare.name} are not on this machine ({file}), and {entry.url} cannot be fetched "
                f"({str(error)[:120]}). {_INSTEAD}"
            ) from error
    return replace(_with_weights(bare, str(file)), licence=LICENCE_TORCHVISION)


def _of_file(name: str, path: Path, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
    """A weight file alone: its sha256 must tell what network it belongs to."""
    if path.suffix not in (*PICKLED, ".safetensors"):
        raise ModelError(
            f"{path} is no weight file that tunesmith reads (.safetensors, .pth, .pt), and no model folder."
        )
    if weights is not None or revision is not None or not pretrained:
        raise ModelError(
            f"{path} is a weight file, so weights, revision and pretrained: false have no place beside it. To name a "
            "network and its weights: model: {name: timm/resnet18, weights: FILE}."
        )
    card = card_of(file_sha256(path))
    if card is None:
        raise ModelError(
            f"{path} does not say what network it belongs to: it is none of the weight files known by their sha256. "
            f"Name the architecture too: model: {{name: timm/resnet18, weights: {name}}}, or torchvision/NAME."
        )
    bare = ModelSource(name, str(path.resolve()), library=card.library, architecture=card.architecture)
    return _with_weights(bare, name)


def _with_weights(source: ModelSource, weights: str) -> ModelSource:
    """The source with a weight file in place of what it holds; ModelError if the file is known to be of another net."""
    file = Path(resolve_place(weights)).expanduser()
    if source.library == "transformers":
        raise ModelError(
            f"weights: {weights} goes with a timm or torchvision architecture. A transformers model is read from its "
            "folder: put the weights into it as model.safetensors and name the folder."
        )
    if not file.is_file():
        near = did_you_mean(file.name, (p.name for p in file.parent.iterdir())) if file.parent.is_dir() else ""
        raise ModelError(f"There is no weight file {weights}.{near}")
    sha256 = file_sha256(file)
    card = card_of(sha256) if file.suffix in (*PICKLED, ".safetensors") else None
    if card and (card.library, _plain(card.architecture)) != (source.library, _plain(source.architecture)):
        raise ModelError(
            f"{weights} is known by its sha256: it holds {card.library}/{card.architecture}, not {source.library}/"
            f"{source.architecture}. Name that, or the file alone."
        )
    hashes = {**source.sha256, file.name: sha256} if Path(source.path).is_dir() else {file.name: sha256}
    path = source.path if Path(source.path).is_dir() else str(file.resolve())
    licence = card.licence if card else source.licence
    return replace(source, path=path, weights=str(file.resolve()), sha256=hashes, licence=licence)


def _plain(architecture: str) -> str:
    return architecture.partition(".")[0]


def _of_folder(source: ModelSource) -> ModelSource:
    """The library and architecture that the folder's config.json names."""
    folder = Path(source.path)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        return source  # the checks on the folder say what it is
    config = read_config(folder)
    library = str(config.get("library", "timm" if "architecture" in config else "transformers"))
    if library not in ("timm", "torchvision"):
        return source
    architecture = str(config.get("architecture", ""))
    check_architecture(library, architecture)
    return replace(source, library=library, architecture=architecture)


def _without_weights(name: str, path: Path, revision: str | None) -> ModelSource:
    """A folder's or hub model's configuration alone."""
    if path.exists() or "/" not in name or name.startswith("package:"):
        return locate(name, revision)
    from huggingface_hub import snapshot_download

    for local in (True, False):
        try:
            place = snapshot_download(name, revision=revision, local_files_only=local, allow_patterns=["*.json"])
        except Exception as error:  # what a missing network raises differs between versions of the http libraries
            if not local:
                raise ModelError(f"The config of {name} is neither on this machine nor fetched: {error}") from error
        else:
            if (Path(place) / "config.json").is_file():
                return ModelSource(name, place)
    raise ModelError(f"{name} on the hub has no config.json, so its network is unknown.")


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
