"""Configurations of the tasks: shipped recipe < file < `--set` < flags."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from recurra.errors import ConfigError
from recurra.jobs.language_model_config import LanguageModelConfig
from recurra.training.configuration import build, flatten, read_file, read_settings

CONFIGS = {"lm": LanguageModelConfig}
LATER = ("tag", "classify", "translate", "forecast")


def config_class(task: str) -> type[LanguageModelConfig]:
    """The configuration of a task.

    Raises:
        ConfigError: no such task, or none yet.
    """
    if task in CONFIGS:
        return CONFIGS[task]
    if task in LATER:
        raise ConfigError(f"task {task!r}: this version of recurra does not have it yet; it has lm")
    raise ConfigError(f"there is no task {task!r}; this version of recurra has lm")


def resolve(
    task: str,
    file: Path | str | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> LanguageModelConfig:
    """The configuration of a run.

    Where no data is named, the recipe shipped for the embedded data stands below everything else.

    Args:
        task: "lm".
        file: a YAML file.
        settings: `KEY=VALUE` strings.
        flags: values by flat or full key; `None` values are not set.
        recipe: stands below everything else; `None` takes the shipped one where no data is named.

    Raises:
        ConfigError: an unknown key or a value that is not allowed.
    """
    config = config_class(task)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    layers = [
        read_file(config, file) if file is not None else {},
        read_settings(config, settings),
        flatten(config, given, "option"),
    ]
    if recipe is None and not any(layer.get("text.data") for layer in layers):
        recipe = read_recipe(task, _kind(layers))
    return build(config, recipe or {}, *layers)


def configuration_for_file(file: Path, settings: Sequence[str] = ()) -> LanguageModelConfig:
    """The configuration that `recurra train TASK --config FILE` would run."""
    try:
        task = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("task", "lm")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"configuration {file} cannot be read: {error}") from error
    return resolve(str(task), file, settings)


def from_run(values: Mapping[str, Any], where: str) -> LanguageModelConfig:
    """The configuration of a run folder."""
    config = config_class(str(values.get("task")))
    return build(config, flatten(config, values, where))


def read_recipe(task: str, model: str) -> dict[str, Any]:
    """A shipped recipe, as `{full path: value}`."""
    path = files("recurra") / "configs" / f"{task}_{model}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return flatten(config_class(task), values, path.name)


def to_yaml(config: LanguageModelConfig) -> str:
    """A configuration as a file that `--config` accepts."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _kind(layers: Sequence[Mapping[str, Any]]) -> str:
    named = [layer["model"] for layer in layers if "model" in layer]
    return named[-1] if named and named[-1] in ("ngram", "nnlm") else "recurrent"
