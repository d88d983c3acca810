"""From a cell's pure functions to graphs: run them on small tensors, write down what happens.

The function runs under a dispatch mode that sees every ATen operation below autograd, so its
derivative is recorded in the same way as itself: autograd derives it, and we only listen.
Operations outside `recurra.kernels.graph.OPERATIONS` are broken into those by torch's own
decompositions; what still remains is refused, by name and line.

A recording is made twice, for two row sizes. Numbers that differ between the two depend on the
size (a mean's divisor), and become the graph's `size`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from recurra.errors import UntraceableCellError
from recurra.kernels.graph import Graph, is_same_number

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
SIZES = (3, 5)
ROWS = 2


@dataclass(frozen=True)
class Entry:
    """One recorded operation; an argument is the number of an earlier entry or a number."""

    op: str
    args: tuple["int | float", ...]  # int: an entry; float: a constant
    name: str = ""


@dataclass(frozen=True)
class Recording:
    """A function and its vector-Jacobian product, ready to be put into a graph.

    Inputs are called as given to `record`; the gradients that come in are `d0`, `d1`, … in the
    order of the function's results.
    """

    entries: tuple[Entry, ...]
    outputs: tuple[int, ...]
    gradients: Mapping[str, int | None]

    def put(self, graph: Graph, bindings: Mapping[str, int]) -> tuple[list[int], dict[str, int]]:
        """Add to a graph, inputs bound to nodes by name; others become inputs of that name.

        Returns:
            the nodes of the results, and of the gradient of each input.
        """
        nodes: list[int] = []
        for entry in self.entries:
            if entry.op == "input":
                bound = bindings.get(entry.name)
                nodes.append(graph.input(entry.name) if bound is None else bound)
            elif entry.op == "size":
                nodes.append(graph.size())
            else:
                args = (graph.constant(a) if isinstance(a, float) else nodes[a] for a in entry.args)
                nodes.append(next(args) if entry.op == "same" else graph.add(entry.op, *args))
        gradients = {
            name: graph.constant(0.0) if index is None else nodes[index]
            for name, index in self.gradients.items()
        }
        return [nodes[o] for o in self.outputs], gradients


def record(
    function: Function, names: Sequence[str], constant: Sequence[str] = (), cell: str = ""
) -> Recording:
    """Record a pure function of tensors (rows, size), and its vector-Jacobian product.

    Args:
        function: takes one tensor for each name, returns a tuple of tensors.
        names: what its arguments are called in the graph.
        constant: those of them that need no gradient.
        cell: the cell's name, for messages.

    Raises:
        UntraceableCellError: an operation that is not pointwise or a row reduction, or a branch
            on a tensor's values; names the operation, the cell and the line.
    """
    first, second = (_record(function, names, constant, cell, size) for size in SIZES)
    if len(first.entries) != len(second.entries):
        raise UntraceableCellError(
            f"cell {cell!r}: its step does different things for {SIZES[0]} and {SIZES[1]} units; "
            "a step must be the same for every size"
        )
    pairs = zip(first.entries, second.entries, strict=True)
    return _join(first, [(a, b) for a, b in pairs], cell)


def _join(first: Recording, pairs: list[tuple[Entry, Entry]], cell: str) -> Recording:
    entries: list[Entry] = []
    moved: list[int] = []

    def put(op: str, *args: int | float, name: str = "") -> int:
        entries.append(Entry(op, args, name))
        return len(entries) - 1

    for a, b in pairs:
        args: list[int | float] = []
        for p, q in zip(a.args, b.args, strict=True):
            if isinstance(p, int):
                args.append(moved[p])
            elif isinstance(q, float) and is_same_number(p, q):
                args.append(p)
            elif is_same_number(p / SIZES[0], q / SIZES[1]):
                args.append(put("mul", p / SIZES[0], put("size")))
            elif is_same_number(p * SIZES[0], q * SIZES[1]):
                args.append(put("div", p * SIZES[0], put("size")))
            else:
                raise UntraceableCellError(
                    f"cell {cell!r}: a number in its step depends on the hidden size in a way "
                    f"that is no multiple of size or 1/size ({p} for {SIZES[0]} units, {q} for "
                    f"{SIZES[1]}); pass it as one of the cell's vectors"
                )
        moved.append(put(a.op, *args, name=a.name))
    return Recording(
        tuple(entries),
        tuple(moved[o] for o in first.outputs),
        {name: None if i is None else moved[i] for name, i in first.gradients.items()},
    )


def _record(
    function: Function, names: Sequence[str], constant: Sequence[str], cell: str, size: int
) -> Recording:
    draw = torch.Generator("cpu").manual_seed(0)

    def example() -> Tensor:
        numbers = torch.rand(ROWS, size, generator=draw, dtype=torch.float64, device="cpu")
        return 0.1 + 0.8 * numbers

    with torch.inference_mode(False), torch.enable_grad(), _disable_current_modes():
        inputs = [example().requires_grad_(name not in constant) for name in names]
        recorder = Recorder(cell, size)
        for name, tensor in zip(names, inputs, strict=True):
            recorder.bind_input(tensor, name)
        with recorder:
            outputs = function(*inputs)
        seeds = [example() for _ in outputs]
        for k, seed in enumerate(seeds):
            recorder.bind_input(seed, f"d{k}")
        wanted = [(n, t) for n, t in zip(names, inputs, strict=True) if n not in constant]
        live = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
        gradients: Sequence[Tensor | None] = [None] * len(wanted)
        if live and wanted:
            with recorder:
                gradients = torch.autograd.grad(
                    [o for o, _ in live],
                    [t for _, t in wanted],
                    [s for _, s in live],
                    allow_unused=True,
                )
    return Recording(
        tuple(recorder.entries),
        tuple(recorder.reference(o) for o in outputs),
        {
            name: None if g is None else recorder.reference(g)
            for (name, _), g in zip(wanted, gradients, strict=True)
        },
    )


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each operation on tensors that it knows, and refuses what it cannot express."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler for this, two seconds, to keep it from tracing us
        return False

    def __init__(self, cell: str, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cell, self.size = cell, size
        self.entries: list[Entry] = []
        self._known: dict[int, tuple[Tensor, int]] = {}  # holds the tensors: ids stay unique

    def bind_input(self, tensor: Tensor, name: str) -> None:
        self.entries.append(Entry("input", (), name))
        self._known[id(tensor)] = tensor, len(self.entries) - 1

    def put(self, op: str, *args: int | float) -> int:
        self.entries.append(Entry(op, args))
        return len(self.entries) - 1

    def reference(self, value: Any) -> int:
        """The entry of a value: a known tensor, or a number, which gets an entry of its own."""
        found = self.operand(value)
        return found if isinstance(found, int) else self.put("same", found)

    def operand(self, value: Any) -> int | float:
        if isinstance(value, Tensor):
            if id(value) in self._known:
                return self._known[id(value)][1]
            if value.numel() == 1:
                with _disable_current_modes():
                    return float(value)
            raise self.refusal(f"a constant tensor of shape {tuple(value.shape)}")
        return float(value)

    def refusal(self, what: str) -> UntraceableCellError:
        return UntraceableCellError(
            f"cell {self.cell!r} uses {what} at {_user_line()}: kernels are made from pointwise "
            "operations and sums, means and maxima over the last axis only; backend='reference' "
            "runs any step"
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        base = func._schema.name.split("::")[1].rstrip("_")
        rule = RULES.get(base)
        if rule is None:
            parts = decomposition_table.get(func) or (func._can_decompose() and func.decompose)
            if not parts:
                raise self.refusal(f"the operation {base!r}")
            with self:
                return parts(*args, **kwargs)
        entry = rule(self, *args, **kwargs)
        result = func(*args, **kwargs)
        if result.dim() and result.shape not in ((ROWS, self.size), (ROWS, 1), (ROWS,)):
            raise self.refusal(f"the operation {base!r} with a result of {_shape(result, self)}")
        self._known[id(result)] = result, entry
        return result


def _shape(result: Tensor, recorder: Recorder) -> str:
    names = {ROWS: "batch", recorder.size: "hidden"}
    return "shape (" + ", ".join(names.get(n, str(n)) for n in result.shape) + ")"


def _user_line() -> str:
    """Where in the user's file the operation stands: the innermost frame outside torch and us."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name != __file__ and "/torch/" not in name.replace("\\", "/"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "its derivative"


Rule = Callable[..., int]


def _plain(op: str) -> Rule:
    """An operation of ours on the tensors and numbers that the ATen operation gets first."""

    def rule(recorder: Recorder, *args: Any, **kwargs: Any) -> int:
        if any(k not in ("dtype",) for k in kwargs):
            raise recorder.refusal(f"{op} with {sorted(kwargs)}")
        return recorder.put(op, *(recorder.operand(a) for a in args))

    return rule


def _scaled(op: str) -> Rule:
    def rule(recorder: Recorder, a: Any, b: Any, alpha: float = 1.0) -> int:
        second = recorder.operand(b)
        if alpha != 1:
            second = recorder.put("mul", second, float(alpha))
        return recorder.put(op, recorder.operand(a), second)

    return rule


def _reversed_sub(recorder: Recorder, a: Any, b: Any, alpha: float = 1.0) -> int:
    first = recorder.operand(a)
    if alpha != 1:
        first = recorder.put("mul", first, float(alpha))
    return recorder.put("sub", recorder.operand(b), first)


def _same(recorder: Recorder, a: Any, *_: Any, **__: Any) -> int:
    return recorder.put("same", recorder.operand(a))


def _filled(value: float | None) -> Rule:
    def rule(recorder: Recorder, like: Any, *args: Any, **kwargs: Any) -> int:
        return recorder.put("same", float(args[-1]) if value is None else value)

    return rule


def _scalar(recorder: Recorder, value: Any, **_: Any) -> int:
    return recorder.put("same", float(value))


def _reduction(op: str) -> Rule:
    def rule(recorder: Recorder, a: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> int:
        dims = [dim] if isinstance(dim, int) else list(dim or [])
        if a.dim() != 2 or [d % 2 for d in dims] != [1]:
            raise recorder.refusal(f"{op.replace('row_', '')} over other than the last axis")
        if op != "row_mean":
            return recorder.put(op, recorder.operand(a))
        return _mean(recorder, recorder.operand(a))

    return rule


def _mean(recorder: Recorder, a: int | float) -> int:
    share = recorder.put("div", 1.0, recorder.put("size"))
    return recorder.put("mul", recorder.put("row_sum", a), share)


def _variance(
    recorder: Recorder, a: Tensor, dim: Any = None, correction: Any = 1, keepdim: bool = False
) -> int:
    if a.dim() != 2 or [d % 2 for d in dim or []] != [1]:
        raise recorder.refusal("var over other than the last axis")
    value = recorder.operand(a)
    centred = recorder.put("sub", value, _mean(recorder, value))
    total = recorder.put("row_sum", recorder.put("mul", centred, centred))
    freedom = recorder.put(
        "sub", recorder.put("size"), float(1 if correction is None else correction)
    )
    return recorder.put("div", total, freedom)


def _power(recorder: Recorder, a: Any, exponent: Any) -> int:
    base = recorder.operand(a)
    if not isinstance(exponent, (int, float)) or isinstance(base, float):
        raise recorder.refusal("pow with an exponent that is no number")
    if exponent == 0.5:
        return recorder.put("sqrt", base)
    if exponent == -0.5:
        return recorder.put("rsqrt", base)
    if exponent != int(exponent) or abs(exponent) > 8:
        raise recorder.refusal(f"pow with exponent {exponent} (whole numbers up to 8, ±0.5)")
    result: int | float = 1.0
    for _ in range(abs(int(exponent))):
        result = recorder.put("mul", result, base)
    if exponent < 0:
        result = recorder.put("div", 1.0, result)
    return result if isinstance(result, int) else recorder.put("same", result)


def _clamp(recorder: Recorder, a: Any, low: Any = None, high: Any = None) -> int:
    value = recorder.reference(a)
    if low is not None:
        value = recorder.put("maximum", value, recorder.operand(low))
    if high is not None:
        value = recorder.put("minimum", value, recorder.operand(high))
    return value


def _relu(recorder: Recorder, a: Any) -> int:
    return recorder.put("maximum", recorder.operand(a), 0.0)


def _threshold_backward(recorder: Recorder, gradient: Any, a: Any, threshold: Any) -> int:
    is_open = recorder.put("gt", recorder.operand(a), float(threshold))
    return recorder.put("where", is_open, recorder.operand(gradient), 0.0)


def _masked_fill(recorder: Recorder, a: Any, mask: Any, value: Any) -> int:
    return recorder.put(
        "where", recorder.operand(mask), recorder.operand(value), recorder.operand(a)
    )


def _sigmoid_backward(recorder: Recorder, gradient: Any, s: Any) -> int:
    value = recorder.operand(s)
    slope = recorder.put("mul", value, recorder.put("sub", 1.0, value))
    return recorder.put("mul", recorder.operand(gradient), slope)


def _tanh_backward(recorder: Recorder, gradient: Any, t: Any) -> int:
    value = recorder.operand(t)
    slope = recorder.put("sub", 1.0, recorder.put("mul", value, value))
    return recorder.put("mul", recorder.operand(gradient), slope)


def _reciprocal(recorder: Recorder, a: Any) -> int:
    return recorder.put("div", 1.0, recorder.operand(a))


# By the name of the ATen operation, without overload and without the underscore of in-place ones.
RULES: dict[str, Rule] = {
    **{op: _plain(op) for op in ("abs", "div", "eq", "exp", "expm1", "ge", "gt", "le", "log")},
    **{op: _plain(op) for op in ("log1p", "lt", "maximum", "minimum", "mul", "ne", "neg")},
    **{op: _plain(op) for op in ("rsqrt", "sigmoid", "sign", "sqrt", "tanh", "where")},
    **{f"logical_{op}": _plain(op) for op in ("and", "or", "not")},
    **{f"bitwise_{op}": _plain(op) for op in ("and", "or", "not")},
    **dict.fromkeys(
        ("alias", "clone", "contiguous", "detach", "expand", "lift_fresh", "lift_fresh_copy"), _same
    ),
    **dict.fromkeys(("_to_copy", "squeeze", "unsqueeze", "view", "_unsafe_view"), _same),
    **dict.fromkeys(("broadcast_in_dim", "convert_element_type", "view_of"), _same),
    **dict.fromkeys(("zeros_like", "new_zeros", "empty_like", "new_empty"), _filled(0.0)),
    **dict.fromkeys(("ones_like", "new_ones"), _filled(1.0)),
    **dict.fromkeys(("full_like", "new_full", "fill"), _filled(None)),
    "add": _scaled("add"),
    "sub": _scaled("sub"),
    "rsub": _reversed_sub,
    "scalar_tensor": _scalar,
    "sgn": _plain("sign"),
    "sum": _reduction("row_sum"),
    "mean": _reduction("row_mean"),
    "amax": _reduction("row_max"),
    "var": _variance,
    "pow": _power,
    "square": lambda recorder, a: _power(recorder, a, 2),
    "clamp": _clamp,
    "clamp_min": lambda recorder, a, low: _clamp(recorder, a, low),
    "clamp_max": lambda recorder, a, high: _clamp(recorder, a, None, high),
    "relu": _relu,
    "threshold_backward": _threshold_backward,
    "masked_fill": _masked_fill,
    "sigmoid_backward": _sigmoid_backward,
    "tanh_backward": _tanh_backward,
    "reciprocal": _reciprocal,
}
