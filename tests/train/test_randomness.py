"""Dropout follows from the counter: not from history, not from padding, not from how a batch is cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.train import randomness
from tunesmith.train.randomness import Dropout, begin, counter_seed, dropout_windows, use_counter_dropout


def mask(
    shape: tuple[int, ...], positions: tuple[int, ...], *, step: int = 1, number: int = 1, p: float = 0.25
) -> torch.Tensor:
    begin(7, step, positions)
    return torch.stack(dropout_windows(Dropout(p, number), shape, p, torch.zeros(())))


@pytest.mark.parametrize("tail", [(6, 8), (4, 6, 6)])
def test_an_example_has_its_mask_whatever_stands_beside_it(tail: tuple[int, ...]) -> None:
    whole = mask((4, *tail), (0, 1, 2, 3))
    assert torch.equal(whole[2:], mask((2, *tail), (2, 3)))
    assert torch.equal(whole[[1, 3]], mask((2, *tail), (1, 3)))


def test_padding_moves_no_mask() -> None:
    assert torch.equal(mask((2, 5, 8), (0, 1)), mask((2, 9, 8), (0, 1))[:, :5])
    assert torch.equal(mask((2, 4, 5, 5), (0, 1)), mask((2, 4, 9, 9), (0, 1))[:, :, :5, :5])


def test_steps_layers_and_examples_differ() -> None:
    one = mask((2, 50, 8), (0, 1))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, mask((2, 50, 8), (0, 1), step=2))
    assert not torch.equal(one, mask((2, 50, 8), (0, 1), number=2))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_share_that_is_dropped_is_p_and_the_mean_is_kept(p: float) -> None:
    drawn = mask((64, 100, 64), tuple(range(64)), p=p)
    assert (drawn == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.01)


def test_masks_of_neighbouring_layers_are_not_related() -> None:
    one, two = (mask((8, 100, 64), tuple(range(8)), number=n).flatten() for n in (1, 2))
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1].item()) < 0.02


def test_a_window_larger_than_the_pool_is_drawn_by_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "POOL", 40)
    monkeypatch.setattr(randomness, "_ROOM", 20)
    monkeypatch.setattr(randomness, "_pools", {})
    assert torch.equal(mask((3, 5, 9), (0, 1, 2))[1:], mask((2, 5, 9), (1, 2)))


def test_every_dropout_is_replaced_and_evaluation_drops_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.1)))
    use_counter_dropout(model)
    found = [m for m in model.modules() if isinstance(m, Dropout)]
    assert [m.p for m in found] == [0.5, 0.1]
    assert len({m.number for m in found}) == 2
    values = torch.ones(2, 4)
    assert torch.equal(found[0].eval()(values), values)


def test_the_seed_of_a_counter_is_fixed_for_all_time() -> None:
    assert counter_seed(0, "torch", 1) == counter_seed(0, "torch", 1) != counter_seed(0, "torch", 2)


def test_dropping_is_multiplying_by_the_windows_forward_and_backward() -> None:
    layer = Dropout(0.4, 3).train()
    values = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)

    def dropped(x: torch.Tensor) -> torch.Tensor:
        begin(1, 1, (0, 1, 2))
        return layer(x)  # type: ignore[no-any-return]

    begin(1, 1, (0, 1, 2))
    expected = values * torch.stack(dropout_windows(layer, (3, 4, 5), 0.4, values))
    assert torch.equal(dropped(values), expected)
    assert torch.autograd.gradcheck(dropped, (values,))
