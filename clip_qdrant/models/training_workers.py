"""The processes of one training, each with a part of every batch; mostly there is just one.

A contrastive loss compares every image with every text, so the vectors go round, not the losses: each process computes
the loss of the whole batch of its own vectors and of everybody else's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clip_qdrant.errors import MissingDependencyError


class Workers:
    """What one process needs of the others; `accelerate launch` and `torchrun` say by the environment who they are.

    Attributes:
        count: how many processes there are.
        device: which is this one's, or None where there is but one process.
        is_first: whether this is the one that writes.
    """

    def __init__(self, device: str) -> None:
        self.count, self._index = 1, 0
        self.device: torch.device | None = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise MissingDependencyError("accelerate", "train", "Training in several processes") from error
            state = PartialState(cpu=device == "cpu")
            self.count, self._index, self.device = state.num_processes, state.process_index, state.device

    @property
    def is_first(self) -> bool:
        """See the class."""
        return self._index == 0

    def part(self, tensor: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return tensor.tensor_split(self.count)[self._index]

    def gather(self, mine: Tensor, total: int) -> Tensor:
        """The rows of all processes in order, (total, dim).

        The gradient of this process's rows is the sum over processes: each has the same loss, and so the same gradient.
        """
        if self.count == 1:
            return mine
        # Gathering takes equal shapes; of a batch that does not divide evenly the first parts are longer by one row.
        room = -(-total // self.count)
        padded = torch.nn.functional.pad(mine.detach(), (0, 0, 0, room - len(mine)))
        lengths = [len(part) for part in torch.empty(total).tensor_split(self.count)]
        gathered = [torch.empty_like(padded) for _ in lengths]
        torch.distributed.all_gather(gathered, padded)
        parts = [rows[:length] for rows, length in zip(gathered, lengths, strict=True)]
        own = mine.view_as(mine)
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        parts[self._index] = own
        return torch.cat(parts)

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Let each process have the sum of all processes' gradients."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is None:  # no part of the batch for this tower
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)

    def same(self, value: float) -> float:
        """The first process's value, on which all go on or stop together."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def by_first(self, action: Callable[[], None]) -> None:
        """Done by the first process, and awaited by the others."""
        if self.is_first:
            action()
        if self.count > 1:
            torch.distributed.barrier()
