"""Memory that kernels work in, kept by each thread from call to call.

Memory asked for anew comes as pages that the system clears one by one: for a weight that is packed
this takes longer than the packing, for the products of a softmax a tenth of their time.
"""

import threading
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

# What is larger is not kept: its work takes long enough.
MOST_NUMBERS = 32 << 20
_kept = threading.local()


def scratch(name: str, *shape: int) -> Tensor:
    """Memory for float32 numbers of any value, used until the next call with this name.

    Args:
        name: of the use; two tensors that are in use at once need two names.
        shape: of the tensor.
    """
    memory: dict[str, _Memory] = _kept.__dict__
    found = memory.get(name)
    if found is not None and found.shape == shape:
        return found.view
    count = prod(shape)
    if count > MOST_NUMBERS:
        return torch.empty(shape)
    if found is None or not count <= found.numbers.numel() <= max(8 * count, 1 << 16):
        memory.pop(name, None)  # the old is given back before the new is taken
        found = None
        numbers = torch.empty(count)
    else:
        numbers = found.numbers
    memory[name] = _Memory(numbers, shape, numbers[:count].view(shape))
    return memory[name].view


class _Memory(NamedTuple):
    numbers: Tensor
    shape: tuple[int, ...]
    view: Tensor  # the first numbers, in this shape: asked for again and again
