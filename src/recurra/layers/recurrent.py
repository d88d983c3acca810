"""A stack of recurrent layers of any cell: parameters, directions, lengths, regularisation."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recurra import kernels
from recurra.cells import Cell
from recurra.errors import ArgumentError, ShapeError
from recurra.kernels import Explanation
from recurra.kernels.problem import is_watched
from recurra.layers import packed
from recurra.layers.arguments import (
    check_probabilities,
    check_sizes,
    check_state,
    checked_lengths,
)
from recurra.layers.checkpointing import run_by_stretches
from recurra.layers.dropout import drop_columns, dropout, zoneout_share
from recurra.layers.initialisation import initialise
from recurra.layers.state import State, from_torch, shared_zeros, to_torch
from recurra.reference import Controls, Parameters, Tensors

_PLAIN = (Controls(), Controls(is_reverse=True))
MOST_SHARED_ROWS = 256  # of a state of zeros; with more, making one does not count

HiddenState = Tensor | Tensors | State


def _keep(y: Tensor) -> Tensor:
    """The identity: a projection's output function."""
    return y


class Recurrent(nn.Module):
    """Run any cell over a batch of sequences, in as many layers and directions as asked.

    With `directions` = 2 if bidirectional else 1, and `size` = `proj_size` or `hidden_size`.

    Args:
        cell: the recurrence; see `recurra.Cell`.
        input_size: features of each step.
        hidden_size: units of each gate; a sequence gives each layer its own.
        num_layers: layers in the stack; layer k + 1 reads the outputs of layer k.
        bias: whether products have biases.
        batch_first: input and output are (batch, time, …) instead of (time, batch, …).
        dropout: share of each layer's outputs dropped, fresh at every step, but for the last layer.
        bidirectional: add a second run from each row's end to its start; outputs are concatenated.
        proj_size: size of the product inside the loop (LSTM projection, Jordan's output); 0 is
            none, or `hidden_size` for a cell that needs one.
        recurrent_dropout: share of h dropped before the recurrent product, one mask for all steps
            (Gal & Ghahramani 2016).
        input_dropout: the same for the input of each layer.
        zoneout: probability that a unit keeps its old state at a step (Krueger et al. 2017); a
            tuple gives one for each state. In eval mode the expected value is taken.
        weight_dropout: share of `weight_hh` dropped in each call (Merity et al. 2018).
        forget_bias: what the total bias of gate f starts as; None: as `init` makes it.
        init: "uniform" (torch.nn's), "orthogonal", "identity", "chrono"; None: the cell's own,
            which is torch.nn's for all cells that torch.nn has.
        chrono_steps: longest lag, in steps, that init="chrono" prepares for.
        initial_state: "zeros", or "learned": one vector per state, trained.
        residual: add each layer's input to its output where their sizes are equal.
        checkpoint_every: for very long sequences: keep states for the backward pass only every so
            many steps and run each such stretch again when its gradient is due. Memory falls to
            about that of one stretch, for one more forward pass; gradients are the same. Not with
            `reset`. 0 keeps all.
        backend: "auto", or one by name, which then never falls back; see `explain`.

    Shapes:
        input: (time, batch, input_size), or (time, input_size) for one sequence, or a
            PackedSequence. Output: (time, batch, directions·size of the last layer), zero past
            each length. States: (layers·directions, batch, size), one tensor for each of
            `cell.states`; a tuple if there are several.

    Raises:
        ArgumentError: an argument out of range, or a cell that lacks what an argument needs.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> layer = Recurrent(GRU_CELL, 3, 4, num_layers=2, bidirectional=True)
        >>> y, h_n = layer(torch.randn(7, 2, 3), lengths=torch.tensor([7, 0]))
        >>> y.shape, h_n.shape
        (torch.Size([7, 2, 8]), torch.Size([4, 2, 4]))
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        proj_size: int = 0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        weight_dropout: float = 0.0,
        forget_bias: float | None = None,
        init: str | None = None,
        chrono_steps: int = 1000,
        initial_state: str = "zeros",
        residual: bool = False,
        checkpoint_every: int = 0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = [hidden_size] * num_layers if isinstance(hidden_size, int) else list(hidden_size)
        check_sizes(input_size, sizes, num_layers, proj_size, initial_state)
        zoneouts = zoneout if isinstance(zoneout, tuple) else (zoneout,) * len(cell.states)
        if len(zoneouts) != len(cell.states):
            raise ArgumentError(f"zoneout={zoneout} needs one value for each of {cell.states}")
        check_probabilities(
            ("dropout", dropout),
            ("recurrent_dropout", recurrent_dropout),
            ("input_dropout", input_dropout),
            ("weight_dropout", weight_dropout),
            *(("zoneout", z) for z in zoneouts),
        )
        if checkpoint_every < 0:
            raise ArgumentError(f"checkpoint_every={checkpoint_every} steps; it must be 0 or more")
        if proj_size and cell.output is None:
            cell = replace(cell, output=_keep)
        self.cell, self.backend = cell, backend
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size, self.residual = bidirectional, proj_size, residual
        self.recurrent_dropout, self.input_dropout = recurrent_dropout, input_dropout
        self.zoneout, self.weight_dropout = zoneouts, weight_dropout
        self.forget_bias, self.init, self.chrono_steps = forget_bias, init, chrono_steps
        self.hidden_sizes, self.checkpoint_every = tuple(sizes), checkpoint_every
        others = len(cell.states) - 1
        pairs = zip(self.output_sizes, self.hidden_sizes, strict=True)
        self._state_sizes = tuple((first, *[hidden] * others) for first, hidden in pairs)
        self._has_learned_start = initial_state == "learned"
        factory = {"device": device, "dtype": dtype}
        for layer in range(num_layers):
            for direction in range(self.num_directions):
                shapes = self._shapes(layer)
                for name, shape in shapes.items():
                    key = f"{name}_{_suffix(layer, direction)}"
                    self.register_parameter(key, nn.Parameter(torch.empty(shape, **factory)))  # type: ignore[arg-type]
        kinds, own = (*Parameters._fields[:6], *cell.vectors), self._shapes(0)
        self._names = {  # of the weights of one layer in one direction; None: it has none
            (layer, direction): [
                f"{kind}_{_suffix(layer, direction)}" if kind in own else None for kind in kinds
            ]
            for layer in range(num_layers)
            for direction in range(self.num_directions)
        }
        self.reset_parameters()
        if residual and not any(
            self.input_sizes[k] == self.num_directions * self.output_sizes[k]
            for k in range(num_layers)
        ):
            raise ArgumentError(
                f"residual=True needs a layer whose input and output sizes are equal; they are "
                f"{self.input_sizes} and {[self.num_directions * s for s in self.output_sizes]}"
            )

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_sizes(self) -> tuple[int, ...]:
        """Size of `states[0]` in each layer."""
        return tuple(
            (self.proj_size or h) if self.cell.output is not None else h for h in self.hidden_sizes
        )

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Features that each layer reads."""
        return (self.input_size, *(self.num_directions * s for s in self.output_sizes[:-1]))

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer's parameters in one direction, in torch.nn's order."""
        cell, hidden, output = self.cell, self.hidden_sizes[layer], self.output_sizes[layer]
        rows = len(cell.gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, self.input_sizes[layer])}
        if cell.recurrent:
            shapes["weight_hh"] = (rows, output)
        if self.bias:
            shapes["bias_ih"] = (rows,)
            if cell.recurrent:
                shapes["bias_hh"] = (rows,)
        if cell.output is not None:
            shapes["weight_hr"] = (output, hidden)
            if cell.output_bias:
                shapes["bias_hr"] = (output,)
        shapes |= {name: (hidden,) for name in cell.vectors}
        if self._has_learned_start:
            shapes |= {
                f"initial_{s}": ((output if k == 0 else hidden),) for k, s in enumerate(cell.states)
            }
        return shapes

    def _parameters_of(self, layer: int, direction: int) -> dict[str, Tensor]:
        suffix = _suffix(layer, direction)
        return {name: getattr(self, f"{name}_{suffix}") for name in self._shapes(layer)}

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the constructor did."""
        for layer in range(self.num_layers):
            for direction in range(self.num_directions):
                named = self._parameters_of(layer, direction)
                weights = {k: p for k, p in named.items() if not k.startswith("initial_")}
                initialise(weights, self.cell, self.init, self.forget_bias, self.chrono_steps)
                for name in named.keys() - weights.keys():
                    nn.init.zeros_(named[name])

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step of `batch_size` sequences: zeros, or what was learned."""
        like, layers = self._named("weight_ih_l0"), []
        for layer in range(self.num_layers):
            for direction in range(self.num_directions):
                if self._has_learned_start:
                    suffix = _suffix(layer, direction)
                    starts = [self._named(f"initial_{s}_{suffix}") for s in self.cell.states]
                    layers.append(tuple([s.expand(batch_size, -1) for s in starts]))
                else:
                    sizes = self._state_sizes[layer]
                    layers.append(tuple([like.new_zeros(batch_size, s) for s in sizes]))
        return State(tuple(layers))

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: HiddenState | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        rows: Tensor | None = None,
        return_states: str = "last",
    ) -> tuple[Tensor | PackedSequence, HiddenState]:
        """Run all layers over all steps.

        Args:
            input: see the class.
            hx: initial states in torch.nn's form or as a State; None: `initial_state`.
            lengths: (batch,) integer, on any device, in any order, 0 ≤ n ≤ time: real steps of
                each row. Past them outputs are zero, and the state stays what it was. The reverse
                direction begins at each row's own end. None: all rows are full.
            reset: bool (time, batch), or (batch, time) with batch_first: True where a new sequence
                begins. There the state is the initial one again, in both directions.
            rows: (time, batch) int64: step t of row b reads input[rows[t, b]], the input being
                (distinct, input_size): words, characters. W then multiplies each distinct input
                once, and its gradient is of their sums, unless a layer drops inputs or recurrent
                ones, keeps old states (zoneout), is residual or checkpointed. Without `reset` and
                batch_first.
            return_states: "last": each state after its row's last step. "all": each state after
                every step, (layers·directions, time, batch, size), or batch before time with
                batch_first; differentiable.

        Returns:
            `(output, states)`: a PackedSequence for a PackedSequence; a State for a State, or
            where the layers' sizes differ.

        Raises:
            ShapeError: input, states, lengths or reset do not fit.
            NotSupportedByBackend: a backend asked for by name cannot run this.
        """
        if return_states not in ("last", "all"):
            raise ArgumentError(f"return_states={return_states!r}; use 'last' or 'all'")
        if rows is not None:
            return self._run_rows(input, hx, rows, lengths, reset, return_states == "all")
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ArgumentError("a PackedSequence brings its lengths; pass no lengths= with it")
            x, lengths = packed.unpack(input)
        else:
            x = input
        is_unbatched = x.dim() == 2
        x, lengths, reset = self._time_major(x, lengths, reset, isinstance(input, PackedSequence))
        state = self._state(hx, x.shape, is_unbatched)
        y, states = self._run(x, state, lengths, reset, return_states == "all")
        if isinstance(input, PackedSequence):
            assert lengths is not None
            return packed.repack(y, lengths, like=input), _as_given(states, hx)
        if is_unbatched:
            return y.squeeze(1), _as_given(states.map(lambda s: s.squeeze(-2)), hx)
        if self.batch_first:
            y = y.transpose(0, 1)
            if return_states == "all":
                states = states.map(lambda s: s.transpose(0, 1))
        return y, _as_given(states, hx)

    def _run_rows(
        self,
        input: Tensor | PackedSequence,
        hx: HiddenState | None,
        rows: Tensor,
        lengths: Tensor | None,
        reset: Tensor | None,
        all_states: bool,
    ) -> tuple[Tensor, HiddenState]:
        """`forward` of distinct inputs and where they stand."""
        if self.batch_first or reset is not None or isinstance(input, PackedSequence):
            raise ArgumentError("rows goes without batch_first, reset and PackedSequence; drop one")
        if input.dim() != 2 or rows.dim() != 2 or rows.dtype != torch.int64:
            raise ShapeError(
                f"with rows, input has shape {tuple(input.shape)} and rows {rows.dtype} "
                f"{tuple(rows.shape)}; expected (distinct, {self.input_size}) and torch.int64 "
                "(time, batch)"
            )
        drops = self.training and bool(self.input_dropout or self.recurrent_dropout)
        if drops or self.residual or any(self.zoneout) or self.checkpoint_every:
            x = nn.functional.embedding(rows, input)
            asked = "all" if all_states else "last"
            return self.forward(x, hx, lengths=lengths, return_states=asked)  # type: ignore[return-value]
        self._time_major(input, None, None, False)  # its size and dtype
        if lengths is not None:
            lengths = checked_lengths(lengths, *rows.shape).to(input.device)
        state = self._state(hx, rows.shape, False)
        y, states = self._run(input, state, lengths, None, all_states, rows)
        return y, _as_given(states, hx)

    def step(self, x_t: Tensor, state: HiddenState | None = None) -> tuple[Tensor, State]:
        """One step of every layer: the numbers that `forward` gives for that step.

        Args:
            x_t: (batch, input_size).
            state: what the last step returned; None starts.

        Returns:
            `(y_t, state)`: (batch, size) and the State to pass on. Without gradients
            (`torch.no_grad()`) it takes a fraction of the time.

        Raises:
            ArgumentError: the layer is bidirectional, so there is no answer before the end.
        """
        if self.bidirectional:
            raise ArgumentError("step needs bidirectional=False: the reverse run starts at the end")
        if x_t.dim() != 2 or x_t.shape[1] != self.input_size:
            raise ShapeError(
                f"x_t has shape {tuple(x_t.shape)}, expected (batch, {self.input_size})"
            )
        state = self._state(state, (1, *x_t.shape), False)
        if self._has_masks:
            y, new = self._run(x_t.unsqueeze(0), state, None, None, False)
            return y.squeeze(0), new
        layers = []
        for layer, old in enumerate(state.layers):
            weights = self._weights(layer, 0)
            layers.append(kernels.step(self.cell, x_t, old, weights, backend=self.backend))
            y = layers[-1][0]
            x_t = x_t + y if self.residual and y.shape == x_t.shape else y
        return x_t, State(tuple(layers))

    @property
    def _has_masks(self) -> bool:
        """Whether something besides weights and states takes part in a step."""
        dropped = self.dropout or self.input_dropout or self.recurrent_dropout
        return any(self.zoneout) or bool(self.training and dropped)

    def explain(
        self,
        input: Tensor,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: str = "last",
    ) -> Explanation:
        """Which backend `forward` would take for this call, and why each other one not.

        Example:
            >>> from recurra.cells import MIN_GRU_CELL
            >>> layer = Recurrent(MIN_GRU_CELL, 3, 4, backend="reference")
            >>> layer.explain(torch.zeros(5, 2, 3)).chosen
            'reference'
        """
        x, lengths, reset = self._time_major(input, lengths, reset, False)
        state = self._state(None, x.shape, False)
        controls = self._controls(0, 0, x, lengths, reset)
        problem = kernels.describe(
            self.cell,
            x,
            state.layers[0],
            self._weights(0, 0),
            controls,
            return_states == "all",
        )
        reasons = {name: support.reason for name, support in kernels.explain(problem).items()}
        return Explanation(kernels.choose(problem, self.backend).name, reasons)

    def _run(
        self,
        x: Tensor,
        state: State,
        lengths: Tensor | None,
        reset: Tensor | None,
        all_states: bool,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        results: list[Tensors] = []
        for layer in range(self.num_layers):
            outputs = []
            if layer and self.dropout and self.training:
                x = dropout(x, self.dropout)
            read = drop_columns(x, self.input_dropout) if self.training else x
            for direction in range(self.num_directions):
                controls = self._controls(layer, direction, x, lengths, reset)
                if rows is not None and not layer:
                    controls = controls._replace(rows=rows)
                sequences, last = self._scan(
                    read,
                    state.layers[len(results)],
                    self._weights(layer, direction),
                    controls,
                    all_states,
                )
                outputs.append(sequences[0])
                results.append(sequences if all_states else last)
            y = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            is_residual = self.residual and y.shape == x.shape
            x = x + y if is_residual else y
        if lengths is not None and self.residual:
            steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
            x = x.masked_fill((steps >= lengths).unsqueeze(-1), 0.0)
        return x, State(tuple(results))

    def _scan(
        self,
        x: Tensor,
        state: Tensors,
        weights: Parameters,
        controls: Controls,
        all_states: bool,
    ) -> tuple[Tensors, Tensors]:
        """One layer in one direction."""
        every = self.checkpoint_every
        if every and every < x.shape[0] and torch.is_grad_enabled():
            if controls.reset is not None:
                raise ArgumentError("checkpoint_every and reset do not go together; drop one")
            return run_by_stretches(
                every, self.cell, x, state, weights, controls,
                all_states=all_states, backend=self.backend,
            )  # fmt: skip
        return kernels.run(
            self.cell, x, state, weights, controls, all_states=all_states, backend=self.backend
        )

    def _weights(self, layer: int, direction: int) -> Parameters:
        ih, hh, bias_ih, bias_hh, hr, bias_hr, *vectors = [
            None if name is None else self._named(name) for name in self._names[layer, direction]
        ]
        if self.weight_dropout and self.training and hh is not None:
            hh = dropout(hh, self.weight_dropout)
        return Parameters(ih, hh, bias_ih, bias_hh, hr, bias_hr, tuple(vectors))  # type: ignore[arg-type]

    def _named(self, name: str) -> Tensor:
        """A weight. Module's own search takes a tenth of a small layer's step for all of them."""
        found = self._parameters.get(name)
        return getattr(self, name) if found is None else found  # not there: it is parametrised

    def _controls(
        self, layer: int, direction: int, x: Tensor, lengths: Tensor | None, reset: Tensor | None
    ) -> Controls:
        """Lengths, direction and this call's fresh masks."""
        mask: Tensor | None = None
        zoneout: tuple[Tensor | None, ...] = ()
        drops = self.training and self.recurrent_dropout
        if lengths is None and reset is None and not drops and not any(self.zoneout):
            return _PLAIN[direction]
        if drops:
            ones = x.new_ones(x.shape[1], self.output_sizes[layer])
            mask = dropout(ones, self.recurrent_dropout)
        if any(self.zoneout):
            time, batch = x.shape[:2]
            zoneout = tuple(
                zoneout_share(x, (time, batch, size) if self.training else (), z)
                for z, size in zip(self.zoneout, self._state_sizes[layer], strict=True)
            )
        return Controls(lengths, reset, direction == 1, mask, zoneout)

    def _time_major(
        self, x: Tensor, lengths: Tensor | None, reset: Tensor | None, is_packed: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Input, lengths and reset as (time, batch, …), checked."""
        shape = x.shape
        if not 2 <= len(shape) <= 3 or shape[-1] != self.input_size:
            axes = "batch, time" if self.batch_first else "time, batch"
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected ({axes}, {self.input_size}), or "
                f"(time, {self.input_size}) for one sequence"
            )
        dtype = self._named("weight_ih_l0").dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ShapeError(
                f"input is {x.dtype}, the layer's weights are {dtype}; convert one of them"
            )
        if len(shape) == 2:
            x = x.unsqueeze(1)
        elif self.batch_first and not is_packed:
            x = x.transpose(0, 1)
            reset = None if reset is None else reset.transpose(0, 1)
        if lengths is None and reset is None:
            return x, None, None
        time, batch = x.shape[:2]
        if lengths is not None:
            lengths = checked_lengths(lengths, time, batch).to(x.device)
        if reset is not None and (reset.shape != (time, batch) or reset.dtype != torch.bool):
            raise ShapeError(
                f"reset is {reset.dtype} {tuple(reset.shape)} (time, batch); expected torch.bool "
                f"{(time, batch)}"
            )
        return x, lengths, reset

    def _state(self, hx: HiddenState | None, shape: tuple[int, ...], is_unbatched: bool) -> State:
        """The initial state as a State, checked, for an input of this shape, (time, batch, …)."""
        time, batch = shape[:2]
        if hx is None:
            return self._start(time, batch)
        state = hx if isinstance(hx, State) else from_torch(hx, self.cell.states)
        if is_unbatched and state.layers[0][0].dim() == 1:
            state = state.map(lambda s: s.unsqueeze(0))
        weight = self._named("weight_ih_l0")
        check_state(state, self.cell.states, batch, self._state_sizes, self.num_directions, weight)
        return state

    def _start(self, time: int, batch: int) -> State:
        """`initial_state`, for a call that only reads it.

        On a GPU each call makes its own: another stream might read zeros that are not there yet.
        """
        weight = self._named("weight_ih_l0")
        is_own = self._has_learned_start or type(self).initial_state is not Recurrent.initial_state
        is_small = 0 < batch <= MOST_SHARED_ROWS and time > 0
        is_plain = type(weight) is nn.Parameter and weight.is_cpu
        if is_own or not is_small or not is_plain or is_watched():
            return self.initial_state(batch)
        return shared_zeros(self._state_sizes, self.num_directions, batch, weight.dtype)

    def extra_repr(self) -> str:
        words = [f"{self.cell.name}, {self.input_size}, {self.hidden_size}"]
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "proj_size": 0,
            "recurrent_dropout": 0.0,
            "input_dropout": 0.0,
            "weight_dropout": 0.0,
            "residual": False,
            "checkpoint_every": 0,
            "backend": "auto",
        }
        words += [f"{k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v]
        return ", ".join(words)


def _suffix(layer: int, direction: int) -> str:
    return f"l{layer}" + ("_reverse" if direction else "")


def _as_given(states: State, hx: HiddenState | None) -> HiddenState:
    return states if isinstance(hx, State) else to_torch(states)
