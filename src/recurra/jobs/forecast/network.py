"""Forecasting networks in a job: built from a configuration."""

from typing import Any

import numpy as np
import torch
from torch import nn

from recurra.data.forecast.series import target_key
from recurra.jobs.forecast.config import ForecastConfig
from recurra.jobs.forecast.dataset import Dataset
from recurra.models.forecast.autoregressive import AutoregressiveForecaster
from recurra.models.forecast.dense import DenseForecaster
from recurra.models.forecast.direct import DirectForecaster
from recurra.models.forecast.inputs import InputSizes
from recurra.models.forecast.segment import SegmentForecaster

MODELS: dict[str, type[nn.Module]] = {
    "direct": DirectForecaster,
    "autoregressive": AutoregressiveForecaster,
    "segment": SegmentForecaster,
    "dense": DenseForecaster,
}
ARGUMENTS = {
    "direct": ("cell", "hidden_size", "num_layers", "decoder_size", "carries", "backend"),
    "autoregressive": ("cell", "hidden_size", "num_layers", "paths", "backend"),
    "segment": ("cell", "hidden_size", "segment", "highway", "backend"),
    "dense": ("hidden_size", "num_layers"),
}


def build_network(config: ForecastConfig, data: Dataset) -> Any:
    """The untrained network of a run, its weights drawn from the run's seed."""
    torch.manual_seed(config.seed)
    network = config.network
    own = {name: getattr(network, name) for name in ARGUMENTS[config.model]}
    return MODELS[config.model](
        input_sizes(data),
        window=config.windows.window,
        horizon=config.windows.horizon,
        dropout=network.dropout,
        head=config.head(),
        levels=network.levels,
        scaling=network.scaling or default_scaling(config.model, data),
        **own,
    )


def input_sizes(data: Dataset) -> InputSizes:
    """What the rows of a run hold."""
    layout, statistics = data.flat.layout, data.schema.statistics
    kinds = data.yardstick.kinds
    real = [kind != "yesno" for kind in kinds]
    keys = [target_key(k) for k in range(len(kinds))]
    return InputSizes(
        kinds,
        tuple(
            statistics.mean[key] if is_real else 0.0
            for key, is_real in zip(keys, real, strict=True)
        ),
        tuple(
            statistics.std[key] if is_real else 1.0 for key, is_real in zip(keys, real, strict=True)
        ),
        layout.past,
        layout.future,
        layout.static,
        layout.past_codes,
        layout.future_codes,
        layout.static_codes,
        layout.has_gaps,
    )


def default_scaling(model: str, data: Dataset) -> str:
    """Of the training rows where all series have one level; else of each window."""
    if model == "segment":
        return "last"
    series = data.series
    is_train = data.partition.is_train(series)
    for k, kind in enumerate(data.yardstick.kinds):
        column = np.where(is_train, series.targets[:, k], np.nan)
        seen = ~np.isnan(column)
        counts = np.maximum(np.bincount(series.owner[seen], minlength=len(series)), 1)
        means = np.bincount(series.owner[seen], column[seen], minlength=len(series)) / counts
        between = ((means - column[seen].mean())[series.owner[seen]] ** 2).mean()
        if kind != "yesno" and between > 0.5 * column[seen].var() > 0:
            return "mean" if model == "autoregressive" else "reversible"
    return "standard"
