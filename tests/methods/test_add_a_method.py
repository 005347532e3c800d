"""docs/add_a_method.md is carried out: its file is written, found through its entry point, trained, saved and read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tunesmith.errors import RecipeError
from tunesmith.methods.base import registry
from tunesmith.types import Pretrained

GUIDE = (Path(__file__).parents[2] / "docs" / "add_a_method.md").read_text(encoding="utf-8")
Load = Callable[..., Pretrained]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found, language
    return found[1]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guide's file and entry point, as pip would lay them down."""
    import tomllib

    (tmp_path / "scale_tuning.py").write_text(block("python"), encoding="utf-8")
    entries = tomllib.loads(block("toml"))["project"]["entry-points"]
    info = tmp_path / "example_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-methods\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in entries.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("scale_tuning", None)


@pytest.mark.usefixtures("installed")
def test_the_guides_method_is_listed_with_its_page() -> None:
    assert "scale_tuning" in registry.names()
    assert registry.describe("scale_tuning") == "One learned factor for each block's feed-forward output."
    assert "scale_tuning" not in sys.modules  # listing imports nothing


@pytest.mark.usefixtures("installed")
def test_the_guides_method_trains_and_what_it_saves_loads_plainly(tiny: Load, tmp_path: Path) -> None:
    import yaml
    from transformers import AutoModelForSequenceClassification

    method = registry.make(yaml.safe_load(block("yaml"))["method"])
    pretrained = tiny("bert")
    model = method.prepare(pretrained)
    learned = method.learned(model)
    assert len([n for n in learned if n.endswith("factor")]) == 2
    ids = torch.arange(3, 9)[None]
    optimizer = torch.optim.SGD(learned.values(), lr=0.1)
    model(input_ids=ids).logits[0, 0].backward()
    optimizer.step()
    expected = model.eval()(input_ids=ids).logits
    method.save(model, tmp_path / "saved", pretrained)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(plain(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(RecipeError, match='unknown method "scale_tuning"'):
        registry.make("scale_tuning")
