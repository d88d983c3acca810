"""What generated kernels call: functions that Triton lacks or rounds too coarsely, and a barrier.

Imported only when a kernel is built, since it needs Triton.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    """Relative error below 1e-6, for small x too (Cephes' polynomial, tanhf, |x| < 0.625)."""
    z = x * x
    p = ((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z
    small = ((p + 1.33314422036e-1) * z - 3.33332819422e-1) * z * x + x
    large = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, small, tl.where(x < 0, -large, large))


@triton.jit
def expm1(x):  # type: ignore[no-untyped-def]
    """2t / (1 - t) with t = tanh(x/2), where exp(x) - 1 would cancel."""
    t = tanh(0.5 * x)
    return tl.where(tl.abs(x) < 1.0, 2.0 * t / (1.0 - t), tl.exp(x) - 1.0)


@triton.jit
def log1p(x):  # type: ignore[no-untyped-def]
    """Kahan's: the error of 1 + x taken out by the ratio."""
    u = 1.0 + x
    d = u - 1.0
    return tl.where(d == 0.0, x, tl.log(u) * (x / tl.where(d == 0.0, 1.0, d)))


@triton.jit
def sign(x):  # type: ignore[no-untyped-def]
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0))


@triton.jit
def join(counter, target):  # type: ignore[no-untyped-def]
    """Count up, and wait until all programs of the group have counted up to `target`.

    All of them must be running, which a cooperative launch sees to.
    """
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release")
    while tl.atomic_add(counter, 0, sem="acquire") < target:
        pass
    tl.debug_barrier()
