"""Small graphs of pointwise operations and row reductions, shared by every emitter.

A graph is what is left of a cell's step once it is traced: inputs, constants, and operations from
the closed set below. Each node is a value per unit, or one number for a whole row (a reduction's
result). Equal nodes are one node, so a value that the forward and the backward pass both compute
has one number and can be recognised.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# What each operation means, and how tests evaluate it. Emitters implement exactly these.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "add": torch.add,
    "and": torch.logical_and,
    "div": torch.div,
    "eq": torch.eq,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "ge": torch.ge,
    "gt": torch.gt,
    "le": torch.le,
    "log": torch.log,
    "log1p": torch.log1p,
    "lt": torch.lt,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mul": torch.mul,
    "ne": torch.ne,
    "neg": torch.neg,
    "not": torch.logical_not,
    "or": torch.logical_or,
    "row_max": lambda a: a.amax(-1, keepdim=True),
    "row_sum": lambda a: a.sum(-1, keepdim=True),
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sign": torch.sgn,
    "sqrt": torch.sqrt,
    "sub": torch.sub,
    "tanh": torch.tanh,
    "where": torch.where,
}
COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le", "and", "or", "not"})
REDUCTIONS = frozenset({"row_sum", "row_max"})
# Worth a store and a load to not compute them again.
DEAR = frozenset({"exp", "expm1", "log", "log1p", "sigmoid", "tanh", "div", "sqrt", "rsqrt"})


@dataclass(frozen=True)
class Node:
    """One value: an input by name, a constant, the row's size, or an operation on other nodes."""

    op: str
    args: tuple[int, ...] = ()
    name: str = ""
    value: float = 0.0


class Graph:
    """Nodes in an order in which each comes after its arguments.

    Example:
        >>> graph = Graph()
        >>> a = graph.input("a")
        >>> graph.add("mul", a, graph.constant(1.0)) == a
        True
        >>> graph.add("tanh", a) == graph.add("tanh", a)
        True
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}
        self._is_row: list[bool] = []

    def _put(self, node: Node, is_row: bool) -> int:
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self._is_row.append(is_row)
        return self._index[node]

    def input(self, name: str) -> int:
        return self._put(Node("input", name=name), is_row=False)

    def constant(self, value: float) -> int:
        return self._put(Node("constant", value=float(value)), is_row=True)

    def size(self) -> int:
        """The number of units of a row, as a number."""
        return self._put(Node("size"), is_row=True)

    def is_row(self, node: int) -> bool:
        """Whether a node is one number for the whole row."""
        return self._is_row[node]

    def is_boolean(self, node: int) -> bool:
        return self.nodes[node].op in COMPARISONS

    def constant_value(self, node: int) -> float | None:
        found = self.nodes[node]
        return found.value if found.op == "constant" else None

    def add(self, op: str, *args: int) -> int:
        """The node of an operation, simplified where that changes a result by rounding at most."""
        if op not in ("where", "and", "or", "not"):
            args = tuple(self._as_number(a) for a in args)
        simpler = self._simplify(op, args)
        if simpler is not None:
            return simpler
        is_row = op in REDUCTIONS or all(self._is_row[a] for a in args)
        return self._put(Node(op, args), is_row)

    def _as_number(self, node: int) -> int:
        if not self.is_boolean(node):
            return node
        return self.add("where", node, self.constant(1.0), self.constant(0.0))

    def _simplify(self, op: str, args: tuple[int, ...]) -> int | None:
        values = [self.constant_value(a) for a in args]
        if values and all(v is not None for v in values) and op not in REDUCTIONS | COMPARISONS:
            numbers = [torch.tensor(v, dtype=torch.float64, device="cpu") for v in values]
            if op != "where":
                return self.constant(float(OPERATIONS[op](*numbers)))
        if op == "add" and 0.0 in values:
            return args[1 - values.index(0.0)]
        if op == "sub" and values[1] == 0.0:
            return args[0]
        if op == "sub" and values[0] == 0.0:
            return self.add("neg", args[1])
        if op == "mul" and 1.0 in values:
            return args[1 - values.index(1.0)]
        if op == "mul" and -1.0 in values:
            return self.add("neg", args[1 - values.index(-1.0)])
        if op == "mul" and 0.0 in values:
            return self.constant(0.0)
        if op == "div" and values[1] == 1.0:
            return args[0]
        if op == "neg" and self.nodes[args[0]].op == "neg":
            return self.nodes[args[0]].args[0]
        if op == "add" and self.nodes[args[0]].op == "add" and args[1] in self.nodes[args[0]].args:
            return self._with_twice(*args)
        if op == "row_sum":
            return self._simplify_sum(args[0])
        if op == "row_max" and self._is_row[args[0]]:
            return args[0]
        return None

    def _with_twice(self, total: int, term: int) -> int:
        """`(a + term) + term`, as a square's derivative has it, with one addition."""
        first, second = self.nodes[total].args
        other = first if second == term else second
        factor, rest = self._split(term)
        twice = self.add("mul", self.constant(2.0), factor)
        return self.add("add", other, self.add("mul", twice, rest))

    def _simplify_sum(self, node: int) -> int | None:
        """A row's sum with what is one number for the row before it, and without what is zero.

        So it waits for no other sum: the gradient of a normalised row then needs one pass, not two.
        """
        found = self.nodes[node]
        if self._is_row[node]:
            return self.add("mul", node, self.size())
        if self._sums_to_zero(node):
            return self.constant(0.0)
        if found.op == "neg":
            return self.add("neg", self.add("row_sum", *found.args))
        factor, rest = self._split(node)
        if rest != node:
            return self.add("mul", factor, self.add("row_sum", rest))
        if found.op in ("add", "sub") and any(map(self._sums_to_zero, found.args)):
            return self.add(found.op, *(self.add("row_sum", a) for a in found.args))
        return None

    def _split(self, node: int) -> tuple[int, int]:
        """(number for the row, value) whose product a node is; the number may be one."""
        found = self.nodes[node]
        if found.op == "mul" and not self._is_row[node]:
            for factor, rest in (found.args, found.args[::-1]):
                if self._is_row[factor]:
                    return factor, rest
        return self.constant(1.0), node

    def _sums_to_zero(self, node: int) -> bool:
        """Whether a value is what a row's mean was taken from, or a multiple of that."""
        found = self.nodes[node]
        if found.op == "sub":
            mean = self.nodes[found.args[1]]
            share = Node("div", (self.constant(1.0), self.size()))
            total = Node("row_sum", found.args[:1])
            return mean.op == "mul" and [self.nodes[a] for a in mean.args] == [total, share]
        return self._split(node)[1] != node and self._sums_to_zero(self._split(node)[1])

    def needed(self, outputs: Iterable[int], available: Iterable[int] = ()) -> list[int]:
        """The nodes that outputs are computed from, in order, stopping at available ones."""
        known, found, stack = set(available), set(), list(outputs)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                if node not in known:
                    stack.extend(self.nodes[node].args)
        return sorted(found)

    def depends_on(self, inputs: Iterable[int]) -> set[int]:
        """The nodes that any of the inputs reaches, the inputs included."""
        reached = set(inputs)
        for index, node in enumerate(self.nodes):
            if any(a in reached for a in node.args):
                reached.add(index)
        return reached

    def users(self, node: int, among: Iterable[int]) -> set[int]:
        return {u for u in among if node in self.nodes[u].args}

    def evaluate(
        self, outputs: Iterable[int], inputs: Mapping[str, Tensor], size: int
    ) -> list[Tensor]:
        """The outputs' values in plain PyTorch, each of the inputs (..., size)."""
        outputs = list(outputs)
        example = next(iter(inputs.values()))
        values: dict[int, Tensor] = {}
        for index in self.needed(outputs):
            node = self.nodes[index]
            if node.op == "input":
                values[index] = inputs[node.name]
            elif node.op in ("constant", "size"):
                number = float(size) if node.op == "size" else node.value
                values[index] = torch.tensor(number, dtype=example.dtype)
            else:
                values[index] = OPERATIONS[node.op](*(values[a] for a in node.args))
        return [values[o] for o in outputs]


def is_same_number(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12)
