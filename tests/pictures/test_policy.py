"""Each of the fourteen changes does what its name says, by as much as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.pictures import policy

FILL = [10.0, 20.0, 30.0]
PICTURE = torch.from_numpy(np.random.default_rng(0).integers(0, 200, (3, 40, 40), dtype=np.uint8))


@pytest.mark.parametrize("name", policy.OTHERS + policy.SIGNED)
def test_a_change_keeps_shape_and_kind_and_grows_with_its_share(name: str) -> None:
    sizes = []
    for share in (0.0, 0.3, 1.0):
        changed = policy.change(PICTURE, name, share=share, fill=FILL)
        assert changed.shape == PICTURE.shape
        assert changed.dtype == torch.uint8
        sizes.append(float((changed.float() - PICTURE.float()).abs().mean()))
    if name in ("autocontrast", "equalize"):
        assert sizes[0] > 0
    elif name == "nothing":
        assert sizes == [0, 0, 0]
    else:
        assert sizes[0] == 0
        assert 0 < sizes[1] < sizes[2] or name in ("turn", "move_x", "move_y", "shear_x", "shear_y")
        assert sizes[2] > 1


def test_signs_point_opposite_ways_and_outside_is_the_fill() -> None:
    for name, axis in (("move_x", 2), ("move_y", 1)):
        there = policy.change(PICTURE, name, share=0.5, sign=1, fill=FILL)
        back = policy.change(PICTURE, name, share=0.5, sign=-1, fill=FILL)
        shift = int(150 / 331 * 40 * 0.5)
        assert torch.equal(there.narrow(axis, shift, 40 - shift), PICTURE.narrow(axis, 0, 40 - shift))
        assert torch.equal(back.narrow(axis, 0, 40 - shift), PICTURE.narrow(axis, shift, 40 - shift))
        outside = there.narrow(axis, 0, shift)
        assert torch.equal(outside, torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).expand_as(outside))
    assert policy.change(PICTURE, "brightness", share=0.5, sign=1, fill=FILL).float().mean() > PICTURE.float().mean()
    assert policy.change(PICTURE, "brightness", share=0.5, sign=-1, fill=FILL).float().mean() < PICTURE.float().mean()


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown change"):
        policy.change(PICTURE, "twirl", share=0.5, fill=FILL)


def test_policies_draw_every_change() -> None:
    seen = [policy.trivialaugment(PICTURE, FILL, np.random.Generator(np.random.Philox(key=s))) for s in range(150)]
    assert len({each.numpy().tobytes() for each in seen}) > 100
    twice = [policy.randaugment(PICTURE, FILL, np.random.Generator(np.random.Philox(key=s))) for s in range(150)]
    assert len({each.numpy().tobytes() for each in twice}) > 90
