"""Right gradients on a CPU where torch 2.14 gives wrong ones.

BatchNorm of a single picture: weight, bias and input are off by their own size where the gradient arrives with its
channels last in memory, as it does from a `flatten(2).transpose(1, 2)` behind the norm: every transformer detector has
one. With two pictures or more, or a gradient that was copied into order first, they are right.

Convolutions in bfloat16 that step by more than one over a map of width 1: the weight's gradient is read from memory
that nobody wrote, so it differs from call to call and may not be finite. RetinaNet and FCOS have one at the top of
their pyramid, which a picture of 128 pixels or fewer narrows to one cell. Where the kernel's edges make the output as
wide as that, a step of one is the same convolution, with a right gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def sound_gradients(model: nn.Module) -> Iterator[None]:
    """For forward passes inside the block, gradients of a single picture reach each BatchNorm in memory order, and
    convolutions step by one over maps of width 1."""
    strides: dict[Any, Any] = {module: module.stride for module in model.modules() if _steps_wide(module)}
    handles = [module.register_forward_hook(_order) for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in strides:
        handles.append(module.register_forward_pre_hook(_step_by_one))
        handles.append(module.register_forward_hook(_step_again(strides[module])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, stride in strides.items():
            module.stride = stride


def _order(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> None:
    if output.requires_grad and len(output) == 1 and output.device.type == "cpu":
        output.register_hook(_ordered)


def _ordered(gradient: Tensor) -> Tensor:
    return gradient.contiguous()


def _steps_wide(module: nn.Module) -> bool:
    """Whether a convolution steps by more than one, and keeps the width of a map of width 1."""
    if not isinstance(module, nn.Conv2d) or module.stride[1] == 1 or isinstance(module.padding, str):
        return False
    return 2 * module.padding[1] == module.dilation[1] * (module.kernel_size[1] - 1)


def _step_by_one(module: Any, given: tuple[Tensor, ...]) -> None:
    if given[0].shape[-1] == 1 and given[0].device.type == "cpu":
        module.stride = (module.stride[0], 1)


def _step_again(stride: Any) -> Any:
    def restore(module: Any, _given: tuple[Tensor, ...], _output: Tensor) -> None:
        module.stride = stride

    return restore
