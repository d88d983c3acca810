"""Run a cell over a sequence: backends, and which of them runs what."""

from recurra.kernels.problem import Explanation, Problem, Support
from recurra.kernels.registry import BACKENDS, backend_names, choose, describe, explain, run, step

__all__ = [
    "BACKENDS",
    "Explanation",
    "Problem",
    "Support",
    "backend_names",
    "choose",
    "describe",
    "explain",
    "run",
    "step",
]
