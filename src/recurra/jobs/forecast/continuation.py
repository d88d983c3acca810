"""Forecasts that go on from what a trained model has read: new rows only, the same answer.

A streaming network (constant scaling) goes on from its memory; any other from the last window of
rows. Either way the forecast is that of a model which reads everything from the start.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurra.data.forecast.schema import Schema
from recurra.data.forecast.series import SeriesSet
from recurra.data.forecast.windows import FlatSeries, encode_series
from recurra.errors import DataError, RunFolderError
from recurra.models.forecast.inputs import Forecast
from recurra.tasks.forecast.backtest import forecast_at, memories_at
from recurra.tasks.mode import evaluation_mode
from recurra.training.files import read_about, write_tensors

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Continuation:
    """What was read last of each series.

    Attributes:
        ids: of the series.
        last: (series,) int64: position of the last row that was read.
        flat: the last rows of each series, encoded: at most a window.
        memory: (series, memory) after them, of a streaming network; None: of any other.
    """

    ids: tuple[str, ...]
    last: Ints
    flat: FlatSeries
    memory: Tensor | None

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        names = ("values", "codes", "static", "static_codes", "offsets")
        tensors = {name: getattr(self.flat, name) for name in names}
        tensors["last"] = torch.from_numpy(self.last)
        if self.memory is not None:
            tensors["memory"] = self.memory
        write_tensors(path, tensors, {"ids": list(self.ids), "layout": list(self.flat.layout)})

    @classmethod
    def load(cls, path: Path, layout: Any) -> "Continuation":
        """Read what `save` wrote.

        Args:
            path: the file.
            layout: of the schema's columns.

        Raises:
            RunFolderError: missing, damaged or foreign.
        """
        from safetensors.torch import load_file

        about = read_about(path)
        try:
            parts = load_file(path)
            ids, last = tuple(about["ids"]), parts.pop("last").numpy()
            memory = parts.pop("memory", None)
            lengths = parts["offsets"].diff()
            owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
            if json.loads(json.dumps(list(layout))) != about["layout"]:
                raise KeyError("its layout is not that of schema.json")
            return cls(ids, last, FlatSeries(layout, owner=owner, **parts), memory)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise RunFolderError(f"{path} is damaged: {error}") from error


def continuation_of(model: Any, series: SeriesSet, flat: FlatSeries) -> Continuation:
    """What a model that has read all rows of `series` goes on from."""
    ends = torch.from_numpy(series.offsets[1:] - 1)
    memory = None
    if model.is_streaming:
        with evaluation_mode(model):
            memory = memories_at(model, flat, ends).clone()
    kept = np.minimum(series.lengths, model.window)
    tail = _take(flat, series.offsets[1:] - kept, series.offsets[1:])
    return Continuation(series.ids, series.start + series.lengths - 1, tail, memory)


def go_on(
    model: Any,
    schema: Schema,
    state: Continuation,
    new: SeriesSet | None,
    levels: tuple[float, ...],
) -> tuple[Forecast | None, tuple[str, ...], Ints, Continuation]:
    """Read new rows and forecast from the last one that holds an observation.

    Rows that were read already are passed over. Rows after the last observation give future
    covariates. A series that was never seen begins with an empty memory.

    Args:
        model: the network.
        schema: of the rows.
        state: what was read so far.
        new: rows; None: there are none, and all known series are forecast.
        levels: of the quantiles; empty: read only, no forecast.

    Returns:
        The forecasts (None without levels), the ids and the origins' positions beside them, and the
        state after the new rows.

    Raises:
        DataError: a future covariate that ends before the horizon does.
    """
    given, origins = _new_rows(schema, state, new)
    ahead = _extended(given, origins + model.horizon, schema)
    if levels:
        _check_future(ahead, origins, model.horizon, schema)
    fresh = encode_series(ahead, schema)
    index = {owner: k for k, owner in enumerate(state.ids)}
    known = [index.get(owner, -1) for owner in given.ids]
    joined, start = _join(state, fresh, known)
    at = start + (origins - ahead.start)  # flat rows of the origins in `joined`
    memory = None
    if model.is_streaming:
        memory = _memory(model, state, fresh, known, torch.from_numpy(origins - ahead.start + 1))
    forecast = None
    if levels:
        forecast = _forecast(model, joined, at, memory, levels)
    kept_from = np.maximum(joined.offsets[:-1].numpy(), at - model.window + 1)
    own = Continuation(given.ids, origins, _take(joined, kept_from, at + 1), memory)
    return forecast, given.ids, origins, _merged(state, own, known)


def _new_rows(schema: Schema, state: Continuation, new: SeriesSet | None) -> tuple[SeriesSet, Ints]:
    """Rows after those that were read, gaps included, and the position of each series' origin."""
    last = dict(zip(state.ids, state.last, strict=True))
    if new is None:
        empty = no_series(schema, state.ids, state.last + 1)
        return empty, state.last.copy()
    begins = np.array(
        [last.get(owner, start - 1) + 1 for owner, start in zip(new.ids, new.start, strict=True)]
    )
    ends = new.start + new.lengths
    first = np.clip(begins - new.start, 0, new.lengths) + new.offsets[:-1]
    rest = new.slice(first, new.offsets[1:])
    given = _spread(rest, schema, begins, np.maximum(ends, begins))
    columns = schema.columns
    seen = ~np.isnan(given.targets).all(axis=1)
    for name in columns.past:
        seen |= ~np.isnan(given.numbers[name])
    for name in columns.past_categories:
        seen |= np.array([value is not None for value in given.categories[name]], dtype=bool)
    rows = np.where(seen, given.positions, -(2**62))
    origins = begins - 1
    for s, (a, b) in enumerate(zip(given.offsets[:-1], given.offsets[1:], strict=True)):
        if b > a:
            origins[s] = max(origins[s], int(rows[a:b].max()))
    unread = [
        owner
        for owner, origin, start in zip(new.ids, origins, begins, strict=True)
        if owner not in last and origin < start
    ]
    if unread:
        raise DataError(
            f"{new.where}: series {unread[0]!r} is new and has no row with an observation, so "
            "there is nothing to forecast from; give it rows"
        )
    return given, origins


def no_series(schema: Schema, ids: Sequence[str] = (), start: Ints | None = None) -> SeriesSet:
    """Series without a row, that begin at positions `start`."""
    columns = schema.columns
    numbers = (*columns.past, *columns.future, *columns.static)
    texts = (*columns.past_categories, *columns.future_categories, *columns.static_categories)
    targets = 1 if columns.is_wide else len(columns.targets)
    return SeriesSet(
        tuple(ids),
        np.zeros(len(ids) + 1, dtype=np.int64),
        np.zeros(0, dtype=np.int64) if start is None else start,
        schema.frequency,
        np.empty((0, targets)),
        {name: np.empty(0) for name in numbers},
        {name: np.empty(0, dtype=object) for name in texts},
        "the saved state",
    )


def _spread(series: SeriesSet, schema: Schema, begins: Ints, ends: Ints) -> SeriesSet:
    """The same series from positions `begins` to `ends`, rows that are not there missing."""
    lengths = ends - begins
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    place = series.positions + np.repeat(offsets[:-1] - begins, series.lengths)
    rows = int(offsets[-1])
    columns = schema.columns

    def put(values: Any, empty: Any, is_static: bool) -> Any:
        out = np.full((rows, *values.shape[1:]), empty, dtype=values.dtype)
        out[place] = values
        if is_static:  # one value a series, wherever it stands
            for a, b, c, d in zip(
                series.offsets[:-1], series.offsets[1:], offsets[:-1], offsets[1:], strict=True
            ):
                if b > a:
                    out[c:d] = values[a]
        return out

    static = (*columns.static, *columns.static_categories)
    return replace(
        series,
        offsets=offsets,
        start=begins,
        targets=put(series.targets, np.nan, False),
        numbers={n: put(v, np.nan, n in static) for n, v in series.numbers.items()},
        categories={n: put(v, None, n in static) for n, v in series.categories.items()},
    )


def _extended(series: SeriesSet, last: Ints, schema: Schema) -> SeriesSet:
    """Rows up to position `last` of each series at least."""
    ends = np.maximum(series.start + series.lengths, last + 1)
    return _spread(series, schema, series.start, ends)


def _check_future(series: SeriesSet, origins: Ints, horizon: int, schema: Schema) -> None:
    frequency = schema.frequency
    first = series.offsets[:-1] + (origins + 1 - series.start)
    rows = first[:, None] + np.arange(horizon)
    for name in schema.columns.future:
        _refuse(series, np.isnan(series.numbers[name])[rows], name, origins, frequency)
    for name in schema.columns.future_categories:
        missing = np.array([value is None for value in series.categories[name]], dtype=bool)
        _refuse(series, missing[rows], name, origins, frequency)


def _refuse(
    series: SeriesSet, missing: NDArray[np.bool_], name: str, origins: Ints, frequency: Any
) -> None:
    bad = np.argwhere(missing)
    if not len(bad):
        return
    s, h = (int(k) for k in bad[0])
    time = frequency.text(int(frequency.times(origins[s : s + 1] + 1 + h)[0]))
    last = frequency.text(int(frequency.times(origins[s : s + 1] + missing.shape[1])[0]))
    of = f" of series {series.ids[s]!r}" if series.ids[s] else ""
    raise DataError(
        f"{series.where}: future covariate {name!r}{of} has no value at {time}; a forecast of "
        f"{missing.shape[1]} steps needs it up to {last}: add rows with it, their targets empty"
    )


def _join(state: Continuation, fresh: FlatSeries, known: list[int]) -> tuple[FlatSeries, Ints]:
    """Kept rows before the new ones of each series; and the flat row where the new ones begin."""
    kept = [
        (int(state.flat.offsets[k]), int(state.flat.offsets[k + 1])) if k >= 0 else (0, 0)
        for k in known
    ]
    lengths = np.array([b - a for a, b in kept], dtype=np.int64)
    new_lengths = fresh.offsets.diff().numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths + new_lengths)])
    pieces = list(zip(kept, fresh.offsets[:-1].tolist(), fresh.offsets[1:].tolist(), strict=True))

    def cat(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([part for (a, b), c, d in pieces for part in (old[a:b], new[c:d])])

    static, static_codes = fresh.static.clone(), fresh.static_codes.clone()
    for s, k in enumerate(known):
        if k >= 0:
            static[s], static_codes[s] = state.flat.static[k], state.flat.static_codes[k]
    owner = torch.repeat_interleave(torch.arange(len(known)), torch.from_numpy(np.diff(offsets)))
    joined = FlatSeries(
        fresh.layout,
        cat(state.flat.values, fresh.values),
        cat(state.flat.codes, fresh.codes),
        static,
        static_codes,
        owner,
        torch.from_numpy(offsets),
    )
    return joined, offsets[:-1] + lengths


def _memory(
    model: Any, state: Continuation, fresh: FlatSeries, known: list[int], steps: Tensor
) -> Tensor:
    """The memory of each series after `steps` of its new rows."""
    assert state.memory is not None
    with evaluation_mode(model):
        empty = model.encoder.memory(model.encoder.layers.initial_state(1))
        start = torch.cat([state.memory[k : k + 1] if k >= 0 else empty for k in known])
        moved = steps > 0
        if not bool(moved.any()):
            return start
        origins = (fresh.offsets[:-1] + steps - 1)[moved]
        memory = start.clone()
        static_ok = _with_static(fresh, state, known)
        memory[moved] = memories_at(model, static_ok, origins, start)
    return memory


def _with_static(fresh: FlatSeries, state: Continuation, known: list[int]) -> FlatSeries:
    """New rows, with the static covariates of the series that are known."""
    static, codes = fresh.static.clone(), fresh.static_codes.clone()
    for s, k in enumerate(known):
        if k >= 0:
            static[s], codes[s] = state.flat.static[k], state.flat.static_codes[k]
    return replace(fresh, static=static, static_codes=codes)


def _forecast(
    model: Any, joined: FlatSeries, at: Ints, memory: Tensor | None, levels: tuple[float, ...]
) -> Forecast:
    if memory is None:
        return forecast_at(model, joined, at, levels)
    with evaluation_mode(model):
        windows = joined.gather(torch.from_numpy(at), 1, model.horizon)
        found: Forecast = model.forecast_from(memory, windows, torch.tensor(levels))
    return found


def _take(flat: FlatSeries, first: Ints, last: Ints) -> FlatSeries:
    """Rows first[s]..last[s] of each series."""
    lengths = last - first
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = torch.from_numpy(np.repeat(first - offsets[:-1], lengths) + np.arange(lengths.sum()))
    owner = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    return replace(
        flat,
        values=flat.values[rows].clone(),
        codes=flat.codes[rows].clone(),
        owner=owner,
        offsets=torch.from_numpy(offsets),
    )


def _merged(state: Continuation, own: Continuation, known: list[int]) -> Continuation:
    """The old state with the series of `own` in their place, new ones at the end."""
    updated = {k for k in known if k >= 0}
    rest = [k for k in range(len(state.ids)) if k not in updated]
    if not rest:
        return own
    a, b = state.flat, own.flat
    old = np.array(rest)
    offsets = a.offsets.numpy()
    picked = torch.cat([torch.arange(int(offsets[k]), int(offsets[k + 1])) for k in rest])
    lengths = np.concatenate([np.diff(offsets)[old], b.offsets.diff().numpy()])
    joined = FlatSeries(
        b.layout,
        torch.cat([a.values[picked], b.values]),
        torch.cat([a.codes[picked], b.codes]),
        torch.cat([a.static[old], b.static]),
        torch.cat([a.static_codes[old], b.static_codes]),
        torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
    )
    memory = None
    if state.memory is not None and own.memory is not None:
        memory = torch.cat([state.memory[old], own.memory])
    ids = (*(state.ids[k] for k in rest), *own.ids)
    return Continuation(ids, np.concatenate([state.last[old], own.last]), joined, memory)
