"""Memory that kernels work in, kept from call to call.

Memory asked for anew comes as pages that the system clears one by one: for a weight that is packed
this takes longer than the packing, for the products of a softmax a tenth of their time, and for
what a scan keeps for its backward pass as long as the product that fills it.
"""

import threading
import weakref
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

# What is larger is not kept: its work takes long enough.
MOST_NUMBERS = 32 << 20
# What is larger than this is given back where an eighth would do. In what is smaller, layers of
# several sizes take turns: each time that it moves, what holds its address is made anew.
LEAST_SHRUNK = 1 << 22
MOST_VIEWS = 64  # of one memory that are kept
# Of the scratch for packed weights and for panels: no two of its users are at work at once.
WORK = "work"
# What is smaller than this is not lent: it comes from memory that the process has already.
LEAST_LENT = 1 << 20

# Memory for float32 numbers on the CPU, of any value or zero, for the sizes given, whatever torch's
# default dtype and device are: the kernels read and write nothing else.
_like = torch.empty(0, dtype=torch.float32, device="cpu")
new_numbers, new_zeros = _like.new_empty, _like.new_zeros


class _Own(threading.local):
    """A thread's scratch by name, and what holds its addresses."""

    def __init__(self) -> None:
        self.named: dict[str, _Memory] = {}
        self.frames: dict[object, Any] = {}


_own = _Own()


def frames() -> dict[object, Any]:
    """This thread's frames of arguments, for who makes them; empty after its scratch moved."""
    return _own.frames


def scratch(name: str, *shape: int) -> Tensor:
    """Memory for float32 numbers of any value, used until the next call with this name.

    Args:
        name: of the use; two tensors that are in use at once need two names.
        shape: of the tensor.
    """
    found = _own.named.get(name)
    if found is not None and shape in found.views:
        return found.views[shape]
    count = prod(shape)
    if not is_kept(count):
        return new_numbers(shape)
    if found is None or not count <= found.numbers.numel() <= max(8 * count, LEAST_SHRUNK):
        if found is not None:  # it is given back before the new is taken
            del _own.named[name], found
            _own.frames.clear()
        found = _own.named[name] = _Memory(new_numbers(count), {})
    if len(found.views) >= MOST_VIEWS:
        found.views.clear()
    found.views[shape] = view = found.numbers[:count].view(shape)
    return view


def is_kept(count: int) -> bool:
    """Whether scratch of so many numbers is kept from call to call."""
    return count <= MOST_NUMBERS


def lent(*shape: int) -> Tensor:
    """Memory for float32 numbers of any value, until no tensor uses it; then it is lent again.

    No more is kept than was in use at one time.

    Args:
        shape: of the tensor.
    """
    count = prod(shape)
    if not LEAST_LENT <= count <= MOST_NUMBERS:
        return new_numbers(shape)
    numbers = _take(count)
    array = numbers.numpy()[:count]
    weakref.finalize(array, _give_back, numbers).atexit = False  # when the tensors' memory is freed
    return torch.from_numpy(array).view(shape)


def _take(count: int) -> Tensor:
    fitting = {key: n.numel() for key, n in _returned.items() if count <= n.numel() <= 2 * count}
    found = _returned.pop(min(fitting, key=fitting.__getitem__), None) if fitting else None
    numbers = new_numbers(count) if found is None else found
    _use["now"] += numbers.numel()
    _use["most"] = max(_use.values())
    return numbers


def _give_back(numbers: Tensor) -> None:
    _use["now"] -= numbers.numel()
    _returned[numbers.data_ptr()] = numbers
    while _use["now"] + sum(n.numel() for n in list(_returned.values())) > _use["most"]:
        _returned.pop(next(iter(_returned)))


_returned: dict[int, Tensor] = {}  # by address, the oldest first
_use = {"now": 0, "most": 0}  # numbers in tensors that are in use, now and at most so far


class _Memory(NamedTuple):
    numbers: Tensor
    views: dict[tuple[int, ...], Tensor]  # the first numbers, by shape: asked for again and again
