"""The recursions of a linear-chain CRF on a CPU, compiled, one row after the other.

Letters as in `recurra.models.crf`. All is computed in float64 on one thread: a step of a batch is
too small to share, and threads that wait for each other cost more than it. Instead of tags² there
are 2 · tags exponentials a step:

    α_{t+1, j} = m + log Σ_i exp(α_{t, i} - m) exp(A_{ij}) + e_{t+1, j}        m = max_i α_{t, i}

A sum too small to be exact, below `LEAST`, is computed again from logarithms.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from recurra.models.crf_steps import Scores

Array = np.ndarray
LEAST = 1e-200
_jit: Any = njit(cache=True, nogil=True, error_model="numpy")


def forward(e: Tensor, scores: Scores, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """See `crf_steps.forward`; both results are float64."""
    alphas = torch.empty(e.shape, dtype=torch.float64)
    sums = torch.zeros(e.shape[1], dtype=torch.float64)
    _forward(*_arrays(e, *scores), lengths.numpy(), alphas.numpy(), sums.numpy())
    return alphas, sums


def backward(
    e: Tensor,
    scores: Scores,
    lengths: Tensor,
    alphas: Tensor,
    sums: Tensor,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `crf_steps.backward`."""
    p = torch.zeros(e.shape, dtype=torch.float64)
    d_between = torch.zeros(scores.between.shape, dtype=torch.float64)
    rows = torch.ones(e.shape[1]) if weights is None else weights
    _backward(
        *_arrays(e, scores.between, scores.last, rows, alphas, sums),
        *(lengths.numpy(), weights is not None, p.numpy(), d_between.numpy()),
    )
    return p.to(e.dtype), d_between.to(e.dtype)


def viterbi(e: Tensor, scores: Scores, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """See `crf_steps.viterbi`."""
    tags = torch.zeros(e.shape[:2], dtype=torch.long)
    best = torch.zeros(e.shape[1], dtype=torch.float64)
    _viterbi(*_arrays(e, *scores), lengths.numpy(), tags.numpy(), best.numpy())
    return tags, best.to(e.dtype)


def _arrays(*tensors: Tensor) -> tuple[Array, ...]:
    return tuple(x.detach().to(torch.float64).contiguous().numpy() for x in tensors)


@_jit
def _largest(x):  # type: ignore[no-untyped-def]
    """The largest number that is not infinite, or 0."""
    largest = -np.inf
    for value in x.flat:
        if value > largest:
            largest = value
    return largest if largest > -np.inf else 0.0


@_jit
def _log_sum(x, y):  # type: ignore[no-untyped-def]
    """log Σ exp(x + y), from logarithms."""
    largest = -np.inf
    for i in range(len(x)):
        largest = max(largest, x[i] + y[i])
    if largest == -np.inf:
        return largest
    total = 0.0
    for i in range(len(x)):
        total += np.exp(x[i] + y[i] - largest)
    return largest + np.log(total)


@_jit
def _step(x, between, ratios, shift, out, p):  # type: ignore[no-untyped-def]
    """out_j = log Σ_i exp(x_i + between_ij), with p_i = exp(x_i - max x); returns the maximum.

    `ratios` are exp(between - shift).
    """
    size = len(x)
    largest = _largest(x)
    out[:] = 0.0
    for i in range(size):
        p[i] = np.exp(x[i] - largest)
        for j in range(size):
            out[j] += p[i] * ratios[i, j]
    for j in range(size):
        if out[j] < LEAST:
            out[j] = _log_sum(x, between[:, j])
        else:
            out[j] = np.log(out[j]) + largest + shift
    return largest


@_jit
def _forward(  # type: ignore[no-untyped-def]
    e, first, between, last, lengths, alphas, sums
):
    size = len(first)
    shift = _largest(between)
    ratios = np.exp(between - shift)
    p, out = np.empty(size), np.empty(size)
    for row in range(len(lengths)):
        if lengths[row] == 0:
            continue
        for j in range(size):
            alphas[0, row, j] = first[j] + e[0, row, j]
        for step in range(1, lengths[row]):
            _step(alphas[step - 1, row], between, ratios, shift, out, p)
            for j in range(size):
                alphas[step, row, j] = out[j] + e[step, row, j]
        sums[row] = _log_sum(alphas[lengths[row] - 1, row], last)


@_jit
def _backward(  # type: ignore[no-untyped-def]
    e, between, last, weights, alphas, sums, lengths, has_weights, p, d_between
):
    """p: the marginals; d_between: the sums of those of pairs, if there are weights.

    Over all steps of all rows, p(i, j) = exp(A_ij) · Σ c_i q_j with c_i = p(i) / Σ_j exp(A_ij) q_j.
    """
    size = len(last)
    shift = _largest(between)
    turned = np.ascontiguousarray(between.T)
    ratios = np.exp(turned - shift)
    following, beta, q = np.empty(size), np.empty(size), np.empty(size)
    products = np.zeros((size, size))
    for row in range(len(lengths)):
        weight = weights[row]
        for step in range(lengths[row] - 1, -1, -1):
            largest = 0.0
            if step == lengths[row] - 1:
                beta[:] = last
            else:
                for j in range(size):
                    following[j] = e[step + 1, row, j] + beta[j]
                largest = _step(following, turned, ratios, shift, beta, q)
            for i in range(size):
                here = np.exp(alphas[step, row, i] + beta[i] - sums[row])
                p[step, row, i] = weight * here if here == here else 0.0
                if not has_weights or step == lengths[row] - 1 or p[step, row, i] == 0.0:
                    continue
                scale = np.exp(beta[i] - largest - shift)
                if scale < LEAST:
                    for j in range(size):
                        chosen = np.exp(between[i, j] + following[j] - beta[i])
                        d_between[i, j] += p[step, row, i] * chosen
                else:
                    c = p[step, row, i] / scale
                    for j in range(size):
                        products[i, j] += c * q[j]
    for i in range(size):
        for j in range(size):
            d_between[i, j] += products[i, j] * ratios[j, i]


@_jit
def _viterbi(  # type: ignore[no-untyped-def]
    e, first, between, last, lengths, tags, best
):
    size = len(first)
    came_from = np.empty((len(e), size), np.int32)
    here, there = np.empty(size), np.empty(size)
    for row in range(len(lengths)):
        length = lengths[row]
        if length == 0:
            continue
        for j in range(size):
            here[j] = first[j] + e[0, row, j]
        for step in range(1, length):
            there[:] = -np.inf
            came_from[step] = 0
            for i in range(size):
                for j in range(size):
                    score = here[i] + between[i, j]
                    if score > there[j]:
                        there[j] = score
                        came_from[step, j] = i
            for j in range(size):
                here[j] = there[j] + e[step, row, j]
        tag = 0
        for j in range(size):
            if here[j] + last[j] > here[tag] + last[tag]:
                tag = j
        best[row] = here[tag] + last[tag]
        for step in range(length - 1, -1, -1):
            tags[step, row] = tag
            tag = came_from[step, tag] if step else tag
