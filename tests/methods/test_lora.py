from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.lora import LoRA
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]


def adapted(model: nn.Module) -> list[str]:
    found = (name for name, _ in model.named_modules() if name.endswith(".lora_A"))
    return sorted(name.removeprefix("base_model.model.").removesuffix(".lora_A") for name in found)


def test_attention_targets_leave_the_feed_forward_part_alone(tiny: Load) -> None:
    names = adapted(LoRA(targets="attention").prepare(tiny("bert")))
    assert len(names) == 8
    assert not [n for n in names if "intermediate" in n or n.endswith("layer.0.output.dense")]


def test_a_list_mixes_roles_groups_and_patterns(tiny: Load) -> None:
    names = adapted(LoRA(targets=["query", "mlp", r"layer\.1\.attention"]).prepare(tiny("bert")))
    assert len(names) == 2 + 4 + 3


def test_a_target_that_fits_nothing_names_what_there_is(tiny: Load) -> None:
    with pytest.raises(ModelError, match=r'"q_proj" is no role.*query.*layer\.0\.attention\.self\.query'):
        LoRA(targets=["q_proj"]).prepare(tiny("bert"))


def test_a_broken_pattern_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(ValidationError, match="is no regular expression"):
        LoRA(targets=["(query"])


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 2.0), ({"variant": "rslora", "rank": 16}, 4.0), ({"variant": "pissa"}, 1.0), ({"alpha": 4}, 0.5)],
)
def test_auto_alpha_gives_the_scale_the_page_names(tiny: Load, options: dict, scale: float) -> None:
    from peft.tuners.lora import LoraLayer

    model = LoRA(**options).prepare(tiny("bert"))
    assert {m.scaling["default"] for m in model.modules() if isinstance(m, LoraLayer)} == {scale}


def test_with_a_b_rate_b_alone_learns_faster(tiny: Load) -> None:
    method = LoRA(b_rate=16.0)
    learned = method.learned(method.prepare(tiny("bert")))
    fast = {name for name in learned if method.rate_factor(name) == 16.0}
    assert fast == {name for name in learned if ".lora_B." in name}
    assert {method.rate_factor(name) for name in set(learned) - fast} == {1.0}


@pytest.mark.parametrize("variant", ["pissa", "olora"])
def test_a_rank_beyond_the_factors_is_refused(tiny: Load, variant: str) -> None:
    with pytest.raises(ModelError, match="rank up to 32"):
        LoRA(variant=variant, rank=33).prepare(tiny("bert"))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_another_machines_start_is_put_back(tiny: Load, kind: str) -> None:
    method = LoRA(variant="pissa", rank=4)
    model = method.prepare(tiny(kind)).eval()
    ids = torch.arange(3, 9)[None]
    before = model(input_ids=ids).logits
    # A singular vector's sign is arbitrary: here the other machine chose the other one, and a little noise.
    state = {n: -t * (1 + 1e-3) for n, t in method.state(model).items()}
    method.restore(model, state)
    with torch.no_grad():
        for name, layer in model.named_modules():
            if f"{name}.initial_a" in state:
                layer.lora_A["default"].weight.copy_(state[f"{name}.initial_a"])
                layer.lora_B["default"].weight.copy_(state[f"{name}.initial_b"])
    torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(t, state[n]) for n, t in method.state(model).items())


@pytest.mark.parametrize("name", ["lora", "adalora"])
def test_under_autocast_an_adapter_reads_bfloat16(tiny: Load, name: str) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    from tunesmith.methods.base import registry

    # With dropout plain LoRA is computed as peft computes it; without, in one step (tests/models/test_low_rank.py).
    dropped = {"dropout": 0.1} if name == "lora" else {}
    model = registry.make({"name": name, "targets": "mlp", **dropped}).prepare(tiny("bert")).train()
    seen = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            cast = module._cast_input_dtype

            def watched(x: torch.Tensor, dtype: torch.dtype, cast: Callable = cast) -> torch.Tensor:
                result = cast(x, dtype)
                seen.add((x.dtype, result.dtype))
                return result

            module._cast_input_dtype = watched
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.arange(3, 9)[None]).logits.sum().backward()
    assert (torch.bfloat16, torch.bfloat16) in seen
    assert (torch.bfloat16, torch.float32) not in seen
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
