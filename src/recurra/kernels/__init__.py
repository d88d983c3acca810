"""Run a cell over a sequence: backends, and which of them runs what."""

from recurra.kernels.problem import Explanation, Problem, Support
from recurra.kernels.registry import BACKEND_NAMES, BACKENDS, choose, describe, explain, run, step

__all__ = [
    "BACKENDS",
    "BACKEND_NAMES",
    "Explanation",
    "Problem",
    "Support",
    "choose",
    "describe",
    "explain",
    "run",
    "step",
]
