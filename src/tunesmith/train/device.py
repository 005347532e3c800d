"""Devices, precision and processes; accelerate lives here, and only here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from tunesmith.types import Batch

Precision = Literal["float32", "bfloat16"]

_PATIENCE = timedelta(days=7)
"""How long processes wait for one that works alone (it delivers, draws intervals, writes pages); the library's own ten
minutes would end a run in its last stage."""

_MESSAGE = 64 << 20
"""Bytes of gradients that are summed over processes at a time: one message of all would be a second copy of them."""


def fast_at_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32; by its features, never by a timing, so that the
    same machine always answers the same."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


class Device:
    """Where the work runs: this process's device, its place among all processes, and its arithmetic."""

    def __init__(self, precision: Precision = "float32") -> None:
        # Told so, accelerate joins processes on a CPU (gloo); it would take each for a run of its own otherwise.
        self.state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)
        self.precision: Precision = precision
        if self.device.type == "cuda":
            _exactly()

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device(self.state.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return bool(self.state.is_main_process)

    @property
    def processes(self) -> int:
        """How many processes share the work."""
        return int(self.state.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.state.process_index)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Autocast to bfloat16, or nothing."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def place(self, model: nn.Module) -> nn.Module:
        """The model on this process's device."""
        return model.to(self.device)

    def move(self, batch: Batch) -> Batch:
        """The batch on this process's device."""
        if self.device.type == "cpu":
            return batch
        inputs = {name: t.to(self.device) for name, t in batch.inputs.items()}
        labels = None if batch.labels is None else batch.labels.to(self.device)
        return Batch(inputs, labels, batch.positions)

    def sum_over_processes(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over all processes, in place, as a few flat messages."""
        if self.processes == 1 or not tensors:
            return
        # Numbers of any type travel as float64 where one of them is, so that counts stay exact.
        wide = torch.float64 if all(t.dtype == torch.float64 for t in tensors) else torch.float32
        for some in _messages(tensors):
            flat = torch.cat([t.reshape(-1).to(self.device, wide) for t in some])
            torch.distributed.all_reduce(flat)
            for tensor, piece in zip(some, flat.split([t.numel() for t in some]), strict=True):
                tensor.copy_(piece.view_as(tensor))

    def average_over_processes(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Each tensor becomes its mean over processes, in place, where this process's counts `weight` times."""
        if self.processes == 1 or not tensors:
            return
        whole = torch.tensor([float(weight)], dtype=torch.float64)
        self.sum_over_processes([whole])
        for tensor in tensors:
            tensor.mul_(weight / max(whole.item(), 1e-12))
        self.sum_over_processes(tensors)

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process; every process gets the same answer."""
        if self.processes == 1:
            return flag
        total = torch.tensor([float(flag)])
        self.sum_over_processes([total])
        return bool(total.item() > 0)

    def agree(self, value: Any) -> Any:
        """The first process's value, in every process: for what only one may decide (a folder, a file's presence)."""
        return value if self.processes == 1 else broadcast_object_list([value])[0]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block before the others do: what it leaves on disk they find."""
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:  # where the first one fails, the others see for themselves
            if self.is_main:
                self.wait()

    def gather(self, values: list[Any]) -> list[Any]:
        """The values of every process, in order of the processes."""
        return values if self.processes == 1 else list(gather_object(values))

    def wait(self) -> None:
        """Until every process is here."""
        self.state.wait_for_everyone()


def _exactly() -> None:
    """CUDA as the rest of the program takes it to be: float32 has all its bits in convolutions too, and kernels are
    those that give the same bits again where there are such."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is made
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False


def repeat_sums(device: torch.device) -> None:
    """On CUDA, take for sums whose order is left open (scattered, indexed) the kernels that keep an order, where torch
    has them; it warns where not. Not for detectors: torchvision then pools regions in Python."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False


def _messages(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    some: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if some and size + tensor.nbytes > _MESSAGE:
            yield some
            some, size = [], 0
        some.append(tensor)
        size += tensor.nbytes
    yield some
