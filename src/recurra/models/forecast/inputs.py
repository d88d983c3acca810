"""What a forecasting network reads at each step: targets, covariates, embedded categories."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.layers import Recurrent, State
from recurra.models.forecast.heads import Heads
from recurra.models.forecast.scaling import WindowScaling

Windows = Any  # see recurra.data.forecast.windows.Windows, whose attributes are all that is read
LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)


class Forecast(NamedTuple):
    """Forecasts side by side, in the targets' own units.

    Attributes:
        mean: (batch, horizon, targets); of a yes/no target the probability of yes.
        quantiles: (batch, horizon, targets, levels), rising.
    """

    mean: Tensor
    quantiles: Tensor


@dataclass(frozen=True)
class InputSizes:
    """How many columns of each kind a network reads.

    Attributes:
        targets: their kinds: "real", "count" or "yesno".
        mean, std: of each target in the training rows.
        past, future, static: features known up to the present, ahead, and of a series.
        past_codes, future_codes, static_codes: sizes of the categories' vocabularies.
        has_gaps: targets are missing somewhere, so that an indicator is read beside each.
    """

    targets: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    past: int = 0
    future: int = 0
    static: int = 0
    past_codes: tuple[int, ...] = ()
    future_codes: tuple[int, ...] = ()
    static_codes: tuple[int, ...] = ()
    has_gaps: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, value: "InputSizes | dict[str, Any]") -> "InputSizes":
        """Itself, or what `as_dict` gave, from JSON."""
        if isinstance(value, InputSizes):
            return value
        own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**own)


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """A network's arguments from its constructor's `locals()`, JSON-able.

    Raises:
        ArgumentError: a size under 1, or a dropout that is no probability.
    """
    kept = {k: v for k, v in options.items() if k not in ("self", "__class__")}
    for name in ("window", "horizon", "hidden_size", "num_layers", "segment"):
        if name in kept and kept[name] < 1:
            raise ArgumentError(f"{name}={kept[name]} must be at least 1")
    if not 0 <= kept.get("dropout", 0.0) < 1:
        raise ArgumentError(f"dropout={kept['dropout']} is no probability below 1")
    kept["inputs"] = InputSizes.of(kept["inputs"]).as_dict()
    kept["levels"] = list(kept["levels"])
    return kept


class Covariates(nn.Module):
    """Features and embedded categories side by side.

    Args:
        inputs: how many there are.

    Attributes:
        past, future, static: sizes of what the methods of these names give.
    """

    def __init__(self, inputs: InputSizes) -> None:
        super().__init__()
        groups = (inputs.past_codes, inputs.future_codes, inputs.static_codes)
        self.embeddings = nn.ModuleList(
            nn.ModuleList(nn.Embedding(n, embedding_size(n)) for n in sizes) for sizes in groups
        )
        extra = [sum(embedding_size(n) for n in sizes) for sizes in groups]
        self.past_size = inputs.past + extra[0]
        self.future_size = inputs.future + extra[1]
        self.static_size = inputs.static + extra[2]

    def past(self, windows: Windows) -> Tensor:
        """(batch, window, past_size)."""
        return self._joined(windows.past, windows.past_codes, 0)

    def future(self, windows: Windows) -> Tensor:
        """(batch, window + horizon, future_size)."""
        return self._joined(windows.future, windows.future_codes, 1)

    def static(self, windows: Windows) -> Tensor:
        """(batch, static_size)."""
        return self._joined(windows.static, windows.static_codes, 2)

    def _joined(self, features: Tensor, codes: Tensor, group: int) -> Tensor:
        tables: Any = self.embeddings[group]
        embedded = [table(codes[..., k]) for k, table in enumerate(tables)]
        return torch.cat([features, *embedded], -1) if embedded else features


def embedding_size(categories: int) -> int:
    """Numbers that a category becomes: half as many as there are, 16 at most."""
    return min(16, (categories + 1) // 2)


class Encoder(nn.Module):
    """Recurrent layers over targets and covariates; the state at each step is the memory.

    x_t = [scaled target, its indicator, past covariates, future-known covariates of t, static]

    Args:
        inputs: what there is to read.
        cell, hidden_size, num_layers, dropout, backend: of the layers; see `recurra.Recurrent`.
        has_flag: add a feature that is 1 where past covariates are there: an autoregressive
            network reads steps without them when it feeds itself.
    """

    def __init__(
        self,
        inputs: InputSizes,
        cell: Cell,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        backend: str,
        has_flag: bool = False,
    ) -> None:
        super().__init__()
        self.covariates = Covariates(inputs)
        self.has_gaps = inputs.has_gaps
        self.has_flag = has_flag and self.covariates.past_size > 0
        own = len(inputs.targets) * (2 if inputs.has_gaps else 1)
        sizes = (
            self.covariates.past_size,
            self.covariates.future_size,
            self.covariates.static_size,
        )
        self.layers = Recurrent(
            cell,
            max(1, own + sum(sizes) + self.has_flag),
            hidden_size,
            num_layers,
            dropout=dropout,
            forget_bias=1.0 if "f" in cell.gates else None,
            backend=backend,
        )

    def steps(
        self, scaled: Tensor, observed: Tensor, past: Tensor | None, future: Tensor, static: Tensor
    ) -> Tensor:
        """Inputs of steps (batch, time, …), as (time, batch, input).

        Args:
            scaled, observed: (batch, time, targets).
            past: (batch, time, past), fewer steps than `scaled` or None: the rest has none.
            future: (batch, time, future). static: (batch, static).
        """
        batch, time = scaled.shape[:2]
        parts = [scaled * observed]
        if self.has_gaps:
            parts.append(observed)
        if self.covariates.past_size:
            known = scaled.new_zeros(batch, time, self.covariates.past_size + self.has_flag)
            if past is not None:
                known[:, : past.shape[1], : past.shape[2]] = past
                if self.has_flag:
                    known[:, : past.shape[1], -1] = 1.0
            parts.append(known)
        parts += [future, static.unsqueeze(1).expand(batch, time, -1)]
        return torch.cat(parts, -1).transpose(0, 1)

    def read(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """The last layer's output at every step, (time, batch, hidden), from an empty memory.

        Args:
            x: what `steps` gave.
            inside: (batch, time): False before a series begins; the memory is empty until then.
        """
        return self._read(x, inside)[0]

    def read_to_end(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """The last layer's output at the last step, (batch, hidden); see `read`.

        Taken from the state: the gradient of a sequence of which one step is used would be a
        sequence, of zeros up to there.
        """
        return self._read(x, inside)[1].layers[-1][0]

    def _read(self, x: Tensor, inside: Tensor | None) -> tuple[Tensor, State]:
        reset = None
        if inside is not None and not bool(inside.all()):
            reset = torch.ones_like(inside)
            reset[:, 1:] = ~inside[:, :-1]
            reset = reset.t().contiguous()
        start = self.layers.initial_state(x.shape[1])
        result: tuple[Tensor, State] = self.layers(x.contiguous(), start, reset=reset)
        return result

    def memories(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Every state after every step, (time, batch, memory).

        Args:
            x: what `steps` gave.
            memory: (batch, memory) before the first step; None: empty.
        """
        start = self.layers.initial_state(x.shape[1]) if memory is None else self.state(memory)
        states: Any = self.layers(x.contiguous(), start, return_states="all")[1]
        return torch.cat([part for layer in states.layers for part in layer], -1)

    def state(self, memory: Tensor) -> State:
        """A memory (batch, memory) as the layers take it."""
        sizes = [part.shape[1] for layer in self.layers.initial_state(1).layers for part in layer]
        parts = iter(part.contiguous() for part in torch.split(memory, sizes, -1))
        count = len(self.layers.cell.states)
        return State(
            tuple(tuple(next(parts) for _ in range(count)) for _ in range(self.layers.num_layers))
        )

    def memory(self, state: State) -> Tensor:
        """What `state` takes."""
        return torch.cat([part for layer in state.layers for part in layer], -1)

    def output(self, memory: Tensor) -> Tensor:
        """The last layer's output, (batch, hidden)."""
        return self.state(memory).layers[-1][0]


def origins_of(values: Tensor, window: int, horizon: int) -> Tensor:
    """For each of `window` steps the `horizon` steps after it: a view (batch, window, horizon, …).

    Example:
        >>> origins_of(torch.arange(5.0).view(1, 5, 1), 3, 2)[0, :, :, 0].tolist()
        [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    """
    return values[:, 1 : window + horizon].unfold(1, horizon, 1).transpose(2, 3)


def scaling_and_heads(
    inputs: InputSizes, scaling: str, head: str, levels: Sequence[float]
) -> tuple[WindowScaling, Heads]:
    """The parts that all networks have at their two ends."""
    return (
        WindowScaling(scaling, inputs.targets, inputs.mean, inputs.std),
        Heads(inputs.targets, head, levels),
    )
