"""Instruments: what a recurrence is made of, how gradients flow through it, what its gates do.

Each instrument is a function that takes cells, layers or tensors and returns numbers, and beside it
functions that draw them. `recurra inspect …` runs them as jobs.
"""

from recurra.insight.error_surface import OneUnit, descend, suggest_threshold
from recurra.insight.gates import GateRecord, find_units, record_gates, time_scale
from recurra.insight.gradient_flow import GradientFlow, gradient_flow, weight_bound
from recurra.insight.memory_probe import measure_recall
from recurra.insight.step_reading import GateKind, gate_kinds, recording_cell
from recurra.insight.structure import (
    Check,
    Structure,
    Times,
    check_layout,
    equal_hidden_size,
    measure_times,
    structure,
)

__all__ = [
    "Check",
    "GateKind",
    "GateRecord",
    "GradientFlow",
    "OneUnit",
    "Structure",
    "Times",
    "check_layout",
    "descend",
    "equal_hidden_size",
    "find_units",
    "gate_kinds",
    "gradient_flow",
    "measure_recall",
    "measure_times",
    "record_gates",
    "recording_cell",
    "structure",
    "suggest_threshold",
    "time_scale",
    "weight_bound",
]
