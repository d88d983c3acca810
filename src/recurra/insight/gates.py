"""What gates, memory and units do, token by token.

The share of a state that a step keeps is its derivative with respect to its old value, the
pre-activations held fixed: f for an LSTM's c, z for a GRU's h, 1 - z for a minGRU's, and 0 for an
Elman network, whose old state passes through weights alone. A value that is multiplied by k at
every step falls to 1/e in

    τ = -1 / log(mean of k)   steps.                                                    (1)

Source: Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", section 2; Mahto et al.
2021, "Multi-timescale representation learning in LSTM language models", equation 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.insight.step_reading import recording_cell
from recurra.layers import Recurrent
from recurra.reference import Tensors, scan


@dataclass(frozen=True)
class GateRecord:
    """What happened in one layer, in one direction. Everything is (time, batch, units).

    Attributes:
        gates: value of each gate after its activation, by name.
        states: value of each state after each step, by name.
        updates: what each step added to each state, by name.
        kept: share of each state that each step kept, by name.
    """

    gates: dict[str, Tensor]
    states: dict[str, Tensor]
    updates: dict[str, Tensor]
    kept: dict[str, Tensor]

    @property
    def memory(self) -> str:
        """The state that keeps most: c of an LSTM, h of a GRU."""
        return max(reversed(self.kept), key=lambda name: float(self.kept[name].mean()))

    def time_scales(self) -> dict[str, Tensor]:
        """τ of each unit of each state, in steps, (units,): 0 keeps nothing, infinite forever.

        Example:
            >>> half = torch.full((3, 1, 2), 0.5)
            >>> record = GateRecord({}, {"h": half}, {"h": half}, {"h": half})
            >>> record.time_scales()["h"].tolist()  # -1 / log(0.5)
            [1.4426950216293335, 1.4426950216293335]
        """
        return {name: time_scale(kept.mean((0, 1))) for name, kept in self.kept.items()}


def time_scale(kept: Tensor) -> Tensor:
    """τ of (1) for mean shares kept; below 0 counts as 0.

    Example:
        >>> time_scale(torch.tensor([0.0, 1.0])).tolist()
        [0.0, inf]
    """
    return 1 / kept.clamp(0, 1).log().abs()


def record_gates(
    layer: Recurrent,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    index: int = 0,
    is_reverse: bool = False,
) -> GateRecord:
    """Run one layer by the plain loop and keep what its gates do.

    Args:
        layer: any recurrent layer, of any task; its own initial state is the start. Dropout is not
            applied, zoneout is left out.
        x: what it reads, (time, batch, input), time first.
        lengths: (batch,), steps of each row; None: all full. Past them gates are what padding makes
            them, so do not average over them.
        index: which layer of a stack; `x` is then the output of the one before it.
        is_reverse: the other direction, of a bidirectional layer; the record stays in the order of
            the input.

    Raises:
        ArgumentError: there is no such layer or direction.
        UntraceableCellError: the cell's step cannot be recorded.

    Cost:
        A Python loop over time: a few tenths of a millisecond a step.

    Example:
        >>> from recurra.layers import LSTM
        >>> record = record_gates(LSTM(3, 4), torch.randn(6, 2, 3))
        >>> list(record.gates), record.states["c"].shape, record.memory
        (['i', 'f', 'g', 'o'], torch.Size([6, 2, 4]), 'c')
        >>> bool((record.kept["c"] == record.gates["f"]).all())
        True
    """
    if not 0 <= index < layer.num_layers or (is_reverse and not layer.bidirectional):
        raise ArgumentError(
            f"layer {index}{', reverse' if is_reverse else ''}: there are {layer.num_layers} "
            f"layers and {layer.num_directions} direction(s)"
        )
    number = index * layer.num_directions + int(is_reverse)
    cell, seen, kept = layer.cell, [], []  # type: ignore[var-annotated]
    watched = _watching(recording_cell(cell, seen), cell, kept)
    controls = layer._controls(index, int(is_reverse), x, lengths, None)
    controls = controls._replace(hidden_mask=None, zoneout=())
    start = tuple(s.detach() for s in layer.initial_state(x.shape[1]).layers[number])
    weights = layer._weights(index, int(is_reverse))
    with torch.no_grad():
        sequences, _ = scan(watched, x, start, weights, controls)
    if is_reverse:
        seen.reverse()
        kept.reverse()
    return GateRecord(
        gates={name: torch.stack([step[name] for step in seen]) for name in cell.gates},
        states=dict(zip(cell.states, sequences, strict=True)),
        updates={
            name: _updates(sequence, first, is_reverse)
            for name, sequence, first in zip(cell.states, sequences, start, strict=True)
        },
        kept={name: torch.stack([k[i] for k in kept]) for i, name in enumerate(cell.states)},
    )


def _watching(recording: Cell, cell: Cell, kept: list[Tensors]) -> Cell:
    """The recording cell, whose steps also append the share that each state keeps."""

    def step(
        from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors = ()
    ) -> Tensors:
        with torch.enable_grad():
            leaves = tuple(s.detach().requires_grad_() for s in state)
            inputs, hidden, fixed = (
                tuple(t.detach() for t in group) for group in (from_input, from_hidden, vectors)
            )
            new = cell.advance(inputs, hidden, leaves, fixed)
            shares = (_share(n, leaf) for n, leaf in zip(new, leaves, strict=True))
            kept.append(tuple(shares))
        return recording.advance(from_input, from_hidden, state, vectors)

    return replace(recording, step=step)


def _share(new: Tensor, old: Tensor) -> Tensor:
    """∂new/∂old, element by element."""
    if not new.requires_grad:
        return torch.zeros_like(old)
    found: Tensor = torch.autograd.grad(
        new.sum(), old, retain_graph=True, allow_unused=True, materialize_grads=True
    )[0]
    return found


def _updates(sequence: Tensor, first: Tensor, is_reverse: bool) -> Tensor:
    """Differences from the state before each step."""
    start = first.unsqueeze(0)
    before = torch.cat((sequence[1:], start) if is_reverse else (start, sequence[:-1]))
    return sequence - before


def correlations(values: Tensor, property: Tensor) -> Tensor:
    """Pearson's r of each unit with a property; 0 where either never changes.

    Args:
        values: (tokens, units).
        property: (tokens,).

    Example:
        >>> values = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, -1.0]])
        >>> correlations(values, torch.tensor([5.0, 6.0, 7.0])).tolist()
        [1.0, -1.0]
    """
    values, property = values.double(), property.double()
    a, b = values - values.mean(0), property - property.mean()
    scale: Tensor = a.norm(dim=0) * b.norm()
    found = (a * b.unsqueeze(1)).sum(0) / scale.clamp(min=1e-12)
    return found.masked_fill(scale < 1e-9, 0.0).float()


@dataclass(frozen=True)
class Finding:
    """A unit that follows a property of the text.

    Attributes:
        property: its name.
        state: the unit's.
        unit: its number.
        chosen_r: Pearson's r on the first half of the text, where the unit was chosen as the best
            of all.
        held_out_r: the same unit's r on the second half, which no choice has touched.
    """

    property: str
    state: str
    unit: int
    chosen_r: float
    held_out_r: float


def find_units(states: dict[str, Tensor], properties: dict[str, Tensor]) -> list[Finding]:
    """The unit that follows each property best, the surest first.

    The best of hundreds of units follows anything a little by chance; so it is chosen on the first
    half of the text and measured on the second.

    Args:
        states: (tokens, units) of each state, by name.
        properties: (tokens,) each, by name; those that a half lacks are left out.

    Raises:
        ArgumentError: fewer than 4 tokens.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch...>
        >>> noise, where = torch.randn(400, 30), (torch.arange(400) % 7 < 2).float()
        >>> noise[:, 11] -= 3 * where
        >>> (found,) = find_units({"h": noise}, {"early": where})
        >>> found.unit, found.held_out_r < -0.7
        (11, True)
    """
    count = len(next(iter(states.values())))
    if count < 4:
        raise ArgumentError(f"{count} tokens are too few to find units by; pass 4 or more")
    halves = slice(0, count // 2), slice(count // 2, count)
    findings = []
    for name, values in properties.items():
        if any(float(values[half].std()) == 0 for half in halves):
            continue
        best: tuple[float, str, int, float] | None = None
        for state, units in states.items():
            first = correlations(units[halves[0]], values[halves[0]])
            unit = int(first.abs().argmax())
            if best is None or abs(float(first[unit])) > best[0]:
                best = abs(float(first[unit])), state, unit, float(first[unit])
        assert best is not None
        _, state, unit, r = best
        held_out = correlations(states[state][halves[1], unit : unit + 1], values[halves[1]])
        findings.append(Finding(name, state, unit, r, float(held_out[0])))
    # of one sign in both halves, or it is chance
    return sorted(findings, key=lambda f: -f.held_out_r * (1 if f.chosen_r > 0 else -1))


def text_properties(tokens: Sequence[str], end: str) -> dict[str, Tensor]:
    """What a reader sees at each token, (tokens,) each.

    Quotes (double, straight or curly) and brackets are taken to close at the line's end. The
    opening and closing marks count as inside.

    Args:
        tokens: in their order; each a word, a piece or a character.
        end: the token that ends a line.

    Example:
        >>> found = text_properties(list('a "b(1'), "<eos>")
        >>> found["inside quotes"].tolist(), found["inside brackets"].tolist()
        ([0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    """
    rows = []
    position, depth, is_quoted = 0, 0, False
    for token in tokens:
        is_end, was_quoted, was_deep = token == end, is_quoted, depth > 0
        for character in "" if is_end else token:
            if character in '"“”':
                is_quoted = not is_quoted
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
        word = "" if is_end else token.strip()
        rows.append(
            (
                position,
                is_quoted or was_quoted,
                depth > 0 or was_deep,
                bool(word) and sum(map(str.isdigit, word)) * 2 > len(word),
                word[:1].isupper(),
                bool(word) and not any(map(str.isalnum, word)),
                is_end,
            )
        )
        position += 1
        if is_end:
            position, depth, is_quoted = 0, 0, False
    names = (
        *("position in line", "inside quotes", "inside brackets", "digits"),
        *("capital letter", "punctuation", "end of line"),
    )
    columns = torch.tensor(rows, dtype=torch.float32).view(-1, len(names)).unbind(1)
    return dict(zip(names, columns, strict=True))
