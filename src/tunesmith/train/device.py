"""Devices, precision and processes; accelerate lives here, and only here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from tunesmith.types import Batch

Precision = Literal["float32", "bfloat16"]


def fast_at_bfloat16(device: torch.device | None = None) -> bool:
    """Whether the processor multiplies bfloat16 faster than float32; by its features, never by a timing, so that the
    same machine always answers the same."""
    if device is not None and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


class Device:
    """Where the work runs: this process's device, its place among all processes, and its arithmetic."""

    def __init__(self, precision: Precision = "float32") -> None:
        # Told so, accelerate joins processes on a CPU (gloo); it would take each for a run of its own otherwise.
        self.state = PartialState(cpu=not torch.accelerator.is_available())
        self.precision: Precision = precision

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
        """Add up tensors over all processes, in place, as one flat message."""
        if self.processes == 1 or not tensors:
            return
        # Numbers of any type travel as float64 where one of them is, so that counts stay exact.
        wide = torch.float64 if all(t.dtype == torch.float64 for t in tensors) else torch.float32
        flat = torch.cat([t.reshape(-1).to(self.device, wide) for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

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

    def gather(self, values: list[Any]) -> list[Any]:
        """The values of every process, in order of the processes."""
        return values if self.processes == 1 else list(gather_object(values))

    def wait(self) -> None:
        """Until every process is here."""
        self.state.wait_for_everyone()
