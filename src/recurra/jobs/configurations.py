"""Configurations of the tasks: shipped recipe < file < `--set` < flags."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from recurra.errors import ConfigError
from recurra.jobs.job import find_job
from recurra.jobs.run_config import RunConfig
from recurra.training.configuration import (
    build,
    flatten,
    known_keys,
    read_file,
    read_settings,
)


def resolve(
    task: str,
    file: Path | str | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    recipe: str | None = None,
) -> Any:
    """The configuration of a run.

    Where no data is named, the recipe shipped for the embedded data stands below everything else.

    Args:
        task: its name.
        file: a YAML file.
        settings: `KEY=VALUE` strings.
        flags: values by flat or full key; `None` values are not set.
        recipe: the name of a shipped recipe to stand below everything else; `None` takes the one
            for the embedded data where no data is named, and none otherwise.

    Returns:
        The task's own kind of `RunConfig`.

    Raises:
        ConfigError: an unknown key or a value that is not allowed.
    """
    job = find_job(task)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    layers = [
        read_file(job.Config, file) if file is not None else {},
        read_settings(job.Config, settings),
        flatten(job.Config, given, "option"),
    ]
    merged = {key: value for layer in layers for key, value in layer.items()}
    if recipe is None and not merged.get(known_keys(job.Config)["data"]):
        recipe = job.recipe(merged)
    shipped = read_recipe(task, recipe) if recipe is not None else {}
    return build(job.Config, shipped, *layers).absolute()


def configuration_for_file(file: Path, settings: Sequence[str] = ()) -> RunConfig:
    """The configuration that `recurra train TASK --config FILE` would run."""
    try:
        task = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("task", "lm")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"configuration {file} cannot be read: {error}") from error
    resolved: RunConfig = resolve(str(task), file, settings)
    return resolved


def from_run(values: Mapping[str, Any], where: str) -> Any:
    """The configuration of a run folder: the task's own kind of `RunConfig`."""
    config = find_job(str(values.get("task"))).Config
    return build(config, flatten(config, values, where))


def read_recipe(task: str, name: str) -> dict[str, Any]:
    """A shipped recipe, as `{full path: value}`."""
    path = files("recurra") / "configs" / f"{task}_{name}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return flatten(find_job(task).Config, values, path.name)


def to_yaml(config: RunConfig) -> str:
    """A configuration as a file that `--config` accepts."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
