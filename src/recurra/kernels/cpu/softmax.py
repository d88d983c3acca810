"""Cross-entropy of a softmax over many words, with its gradients, by generated code.

For each row the exponentials are taken of logits less a shift, which must be near the highest
logit and need not be it: here the highest among the target's and the first `SAMPLED_WORDS` words'.
So no sum can vanish, and one can overflow only if another word's logit is 80 above all of those;
then there is no answer, and the caller takes a slower way.

Where the processor has units for whole matrices (see `matrix`), all logits of some rows are one
product, in whose place the exponentials are taken (`_Units`); elsewhere each block of words passes
by once (`_Sweeps`, see `softmax_code`).
"""

import ctypes
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.host import BFLOAT16, HALVES, Host, find_host
from recurra.kernels.cpu.products import (
    along_rows,
    linear,
    pack,
    pack_turned,
    product_of_rows,
    sums_of_products,
)
from recurra.kernels.cpu.scratch import new_numbers, scratch
from recurra.kernels.cpu.softmax_code import (
    ARGUMENTS,
    ROW_ARGUMENTS,
    block_words,
    build_exponentials_of_rows,
    build_softmax,
    panel_rows,
)
from recurra.kernels.cpu.threads import openmp, team_functions, thread_limit
from recurra.kernels.schedule import Rows

SAMPLED_WORDS = 256
# below these torch's functions take less time than packing, or compiling
LEAST_WORDS, LEAST_ROWS = 1000, 32
# below these, units for matrices take no less time than vectors
LEAST_UNIT_FEATURES, LEAST_UNIT_ROWS = 96, 192
UNIT_WORDS = 1024  # whose logits exist at once, where none is kept
WEIGHT = "softmax weight"  # scratch for it as it is packed, one way after the other


class Gradients(NamedTuple):
    """The mean cross-entropy in nats and its gradients, each as large as what it belongs to."""

    nats: Tensor
    features: Tensor
    weight: Tensor
    bias: Tensor


def multiplies_bfloat16(features: Tensor) -> bool:
    """Whether `in_bfloat16` can be asked for, and saves time with such features."""
    host = find_host()
    if host.has_matrix_units:  # its vectors are slower in bfloat16
        return _unit_parts(features, in_bfloat16=True) > 0
    return host.multiplies_bfloat16


def supports(features: Tensor, weight: Tensor) -> bool:
    """Whether the generated code can run this, and is worth it."""
    return (
        features.device.type == weight.device.type == "cpu"
        and features.dtype == weight.dtype == torch.float32
        and len(features) >= LEAST_ROWS
        and len(weight) >= LEAST_WORDS
        and find_host().lanes >= 8
        and torch._C._functorch.maybe_current_level() is None
    )


@torch.no_grad()
def softmax_gradients(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    share: Tensor,
    *,
    chunk_rows: int,
    in_bfloat16: bool = False,
) -> Gradients | None:
    """Σ_r share_r · -log p(target_r), and its gradients.

    Args:
        features: (rows, features), float32, as all others but the targets.
        weight: (words, features).
        bias: (words,) or None.
        targets: (rows,), int64, in 0..words-1.
        share: (rows,), of each row in the result; 0 leaves it out.
        chunk_rows: rows whose exponentials exist at once, rounded up by less than a panel.
        in_bfloat16: round the products' operands; all sums stay in float32.

    Returns:
        None if a sum overflowed or a number is not finite.
    """
    weight, features = weight.contiguous(), features.contiguous()
    rows = len(features)
    b = weight.new_zeros(len(weight)) if bias is None else bias.contiguous()
    at_target, shift = _at_target_and_shift(features, weight, b, targets, in_bfloat16)
    work = _work(features, weight, b, in_bfloat16)
    step = work.keep(min(rows, chunk_rows))
    totals, d_features = features.new_empty(rows), torch.empty_like(features)
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        total, summed = work.exponentials(features[part], shift[part])
        scale = share[part] / total
        totals[part] = total
        d_features[part] = summed.mul_(scale.unsqueeze(1))
        work.gradients(features[part], scale, adds=start > 0)
    nats = (share * (shift + totals.log() - at_target)).sum()
    if not torch.isfinite(nats):
        return None
    d_features.addcmul_(weight[targets], share.unsqueeze(1), value=-1)
    d_weight, d_bias = work.d_weight[: len(weight)], work.d_bias[: len(weight)]
    d_weight.index_add_(0, targets, features * -share.unsqueeze(1))
    d_bias.index_add_(0, targets, -share)
    return Gradients(nats, d_features, d_weight, d_bias)


@torch.no_grad()
def target_log_probabilities(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    in_bfloat16: bool = False,
) -> Tensor | None:
    """log p(target_r) of each row, (rows,), without keeping any exponential.

    Args: as of `softmax_gradients`.

    Returns:
        None if a sum overflowed or a number is not finite.
    """
    weight, features = weight.contiguous(), features.contiguous()
    b = weight.new_zeros(len(weight)) if bias is None else bias.contiguous()
    at_target, shift = _at_target_and_shift(features, weight, b, targets, in_bfloat16)
    log_p = at_target - shift - _work(features, weight, b, in_bfloat16).sums(features, shift).log()
    return log_p if torch.isfinite(log_p).all() else None


def _at_target_and_shift(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, in_bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """Each row's logit at its target, and the shift of its exponentials."""
    first = slice(SAMPLED_WORDS)
    of_targets, some, of_some = (
        weight[targets],
        weight[first].contiguous(),
        bias[first].contiguous(),
    )
    if in_bfloat16:  # the target's logit is one of those in the sum, and must not be above it
        features, of_targets = (t.bfloat16().float() for t in (features, of_targets))
    parts = BFLOAT16 if in_bfloat16 else _unit_parts(features, in_bfloat16=False)
    sample = linear(features, some, of_some, find_host(), parts=parts)
    at_target = (features * of_targets).sum(1) + bias[targets]
    return at_target, torch.maximum(sample.amax(1), at_target)


def _unit_parts(features: Tensor, *, in_bfloat16: bool) -> int:
    """In how many parts units for matrices multiply (see `couples`); 0: they do not, or slower.

    With three parts they took 0.9 to 1.5 times as long as vectors (Granite Rapids).
    """
    host, (rows, size) = find_host(), features.shape
    if not host.has_matrix_units or rows < LEAST_UNIT_ROWS or size < LEAST_UNIT_FEATURES:
        return 0
    if in_bfloat16:
        return BFLOAT16
    return HALVES if host.float32_parts == HALVES else 0


def _work(features: Tensor, weight: Tensor, bias: Tensor, in_bfloat16: bool) -> "_Units | _Sweeps":
    parts = _unit_parts(features, in_bfloat16=in_bfloat16)
    return _Units(weight, bias, parts) if parts else _Sweeps(weight, bias, in_bfloat16)


class _Units:
    """One call by units for matrices: rows of exponentials of all words, between products."""

    def __init__(self, weight: Tensor, bias: Tensor, parts: int) -> None:
        self.weight, self.bias, self.parts, self.host = weight, bias, parts, find_host()
        self.e = self.d_weight = weight
        self.d_bias = bias

    def keep(self, rows: int) -> int:
        """How many rows to give at once."""
        return rows

    def sums(self, features: Tensor, shift: Tensor) -> Tensor:
        """Σ_w e, (rows,)."""
        sums = torch.zeros_like(shift)
        for start in range(0, len(self.weight), UNIT_WORDS):
            words = slice(start, start + UNIT_WORDS)
            packed = self._packed(self.weight[words])
            sums += self._exponentials(features, packed, self.bias[words], shift, "logits")[1]
        return sums

    def exponentials(self, features: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_w e, (rows,), and Σ_w e·w, (rows, size)."""
        packed = self._packed(self.weight)
        self.e, sums = self._exponentials(features, packed, self.bias, shift, "exponentials")
        turned = pack_turned(self.weight, self.host, WEIGHT, parts=self.parts)
        size = self.weight.shape[1]
        return sums, product_of_rows(self.e, turned, size, None, self.host, parts=self.parts)

    def gradients(self, features: Tensor, scale: Tensor, *, adds: bool) -> None:
        """Write d_weight and d_bias, or add to them, from the exponentials."""
        rights = [Rows(features * scale.unsqueeze(1)), Rows(scale.unsqueeze(1))]
        (d_weight, _), (d_bias, _) = sums_of_products(self.e, rights, self.host, parts=self.parts)
        if adds:
            self.d_weight += d_weight
            self.d_bias += d_bias.squeeze(1)
        else:
            self.d_weight, self.d_bias = d_weight, d_bias.squeeze(1)

    def _packed(self, weight: Tensor) -> Tensor:
        return pack(weight, len(weight), self.host, WEIGHT, parts=self.parts)

    def _exponentials(
        self, features: Tensor, packed: Tensor, bias: Tensor, shift: Tensor, name: str
    ) -> tuple[Tensor, Tensor]:
        """e, (rows, words), in the scratch of this name, and Σ_w e, (rows,)."""
        room = partial(scratch, name)
        e = product_of_rows(
            features, packed, len(bias), bias, self.host, parts=self.parts, memory=room
        )
        sums = new_numbers(len(e))
        values = (ctypes.c_int64 * len(ROW_ARGUMENTS))(  # in their order
            *(*e.shape, e.data_ptr(), e.stride(0), shift.data_ptr(), sums.data_ptr()),
            *team_functions(),
        )
        _rows_code(self.host).run("exponentials_of_rows", values, thread_limit())
        return e, sums


class _Sweeps:
    """One call by vectors: its memory, and the code that fills it, as `softmax_code` has them."""

    def __init__(self, weight: Tensor, bias: Tensor, in_bfloat16: bool) -> None:
        self.host, self.in_bfloat16 = find_host(), in_bfloat16
        if in_bfloat16 and len(weight) % 2:  # one more word, whose exponential is always 0
            weight = torch.nn.functional.pad(weight, (0, 0, 0, 1))
            bias = torch.nn.functional.pad(bias, (0, 1), value=float("-inf"))
        self.words, self.bias = len(weight), bias
        self.weight = _along_columns(weight) if in_bfloat16 else weight
        self.numbers = self.weight_by_words = weight
        self.width, self.size = panel_rows(self.host), weight.shape[1]
        self.threads = thread_limit()
        self.code = _code(self.host, self.size, in_bfloat16=in_bfloat16)
        self.panels, self.e, self.e_by_words = 0, bias, bias
        self.d_weight, self.d_bias = weight, bias

    def keep(self, rows: int) -> int:
        """Make room for so many rows' exponentials, and for gradients; whole panels of them."""
        panels, block = -(-rows // self.width), block_words(self.host)
        blocks = -(-self.words // block)
        count = panels * blocks * block * self.width // (2 if self.in_bfloat16 else 1)
        self.panels, self.e = panels, scratch("exponentials", count)
        self.e_by_words = scratch("exponentials by words", count) if self.in_bfloat16 else self.e
        if self.in_bfloat16:
            self.weight_by_words = along_rows(self.numbers, self.host)
        self.d_weight = self.bias.new_empty(self.words, self.size)
        self.d_bias = torch.empty_like(self.bias)
        return panels * self.width

    def sums(self, features: Tensor, shift: Tensor) -> Tensor:
        """Σ_w e, (rows,)."""
        panels, x = self._panels(features), self._by_panel(features)
        sums = x.new_zeros(self.threads, panels * self.width)
        self._call("sums", panels, x=x, shift=self._padded(shift.unsqueeze(1)), sums=sums, d_x=x)
        return sums.sum(0)[: len(features)]

    def exponentials(self, features: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_w e, (rows,), and Σ_w e·w, (rows, size)."""
        rows, panels = len(features), self._panels(features)
        x = self._by_panel(features)
        shift = self._padded(shift.unsqueeze(1))
        sums = x.new_zeros(self.threads, panels * self.width)
        d_x = x.new_zeros(self.threads, panels, self.size, self.width)
        self._call("exponentials", panels, x=x, shift=shift, sums=sums, d_x=d_x)
        summed = d_x.sum(0).transpose(1, 2).reshape(-1, self.size)
        return sums.sum(0)[:rows], summed[:rows]

    def gradients(self, features: Tensor, scale: Tensor, *, adds: bool) -> None:
        """Write d_weight and d_bias, or add to them, from the exponentials."""
        panels = self._panels(features)
        groups = -(-(self.size + 1) // self.width)
        y = features.new_zeros(panels * self.width, groups * self.width)
        torch.mul(features, scale.unsqueeze(1), out=y[: len(features), : self.size])
        y[: len(features), self.size] = scale
        y = along_rows(y, self.host) if self.in_bfloat16 else y
        y = y.view(-1, groups, self.width).transpose(0, 1).contiguous()
        self._call("gradients", panels, y=y, adds=adds)

    def _panels(self, features: Tensor) -> int:
        return -(-len(features) // self.width)

    def _by_panel(self, features: Tensor) -> Tensor:
        """(panels, features, rows of a panel); couples of features."""
        rows = _along_columns(features) if self.in_bfloat16 else features
        rows = self._padded(rows).view(-1, self.width, rows.shape[1])
        return rows.transpose(1, 2).contiguous()

    def _padded(self, rows: Tensor) -> Tensor:
        """Zeros below, up to whole panels."""
        missing = self._panels(rows) * self.width - len(rows)
        return torch.nn.functional.pad(rows, (0, 0, 0, missing)).contiguous()

    def _call(self, name: str, panels: int, *, adds: bool = False, **tensors: Tensor) -> None:
        tensors |= {"weight": self.weight, "weight_by_words": self.weight_by_words}
        tensors |= {"bias": self.bias, "e": self.e, "e_by_words": self.e_by_words}
        tensors |= {"d_weight": self.d_weight, "d_bias": self.d_bias}
        known = {"words": self.words, "panels": panels, "adds": int(adds)}
        known |= {key: tensor.data_ptr() for key, tensor in tensors.items()} | openmp()
        values = (ctypes.c_int64 * len(ARGUMENTS))(*(known.get(key, 0) for key in ARGUMENTS))
        self.code.run(name, values, self.threads)


def _along_columns(rows: Tensor) -> Tensor:
    """(…, depth) as (…, ⌈depth/2⌉) couples of neighbouring columns, rounded to bfloat16."""
    *others, depth = rows.shape
    halves = rows.new_empty(*others, depth + depth % 2, dtype=torch.bfloat16)
    halves[..., :depth], halves[..., depth:] = rows, 0
    return halves.view(torch.float32)


@cache
def _code(host: Host, size: int, *, in_bfloat16: bool) -> MachineCode:
    name = "softmax-bfloat16" if in_bfloat16 else "softmax"
    return compile_cached(
        name, str(size), lambda: build_softmax(host, size, in_bfloat16=in_bfloat16), host
    )


@cache
def _rows_code(host: Host) -> MachineCode:
    name = "softmax-rows"
    return compile_cached(name, name, lambda: build_exponentials_of_rows(host), host)
