"""Configurations: strict records, composed of sections, set by file, by `--set` and by flags.

A key may be written in full (`training.learning_rate`) or, since no name occurs in two sections,
alone (`learning_rate`). An unknown key is an error that names the nearest known one.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recurra.errors import ConfigError


class Options(BaseModel):
    """Base of every section: frozen, no unknown key, no silent conversion of strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Config = TypeVar("Config", bound=Options)


def sections(config: type[Options]) -> dict[str, type[Options]]:
    """The fields of a configuration that are sections themselves."""
    return {
        name: field.annotation
        for name, field in config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options)
    }


def known_keys(config: type[Options]) -> dict[str, str]:
    """Every key as users may write it, with its path in full: `{"seed": "seed", …}`."""
    nested = sections(config)
    keys = {name: name for name in config.model_fields if name not in nested}
    for section, options in nested.items():
        for name in options.model_fields:
            keys[name] = keys[f"{section}.{name}"] = f"{section}.{name}"
    return keys


def resolve_key(config: type[Options], key: str, source: str) -> str:
    """The full path of a key.

    Raises:
        ConfigError: no such key; names the nearest one.
    """
    keys = known_keys(config)
    if key in keys:
        return keys[key]
    near = get_close_matches(key, keys, n=1) or get_close_matches(key.rsplit(".")[-1], keys, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(keys))}"
    raise ConfigError(f"{source}: unknown key {key!r}; {hint}")


def flatten(config: type[Options], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A nested or flat mapping as `{full path: value}`, unknown keys refused."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in sections(config) and isinstance(value, Mapping):
            inner = {f"{key}.{name}": item for name, item in value.items()}
            flat |= {resolve_key(config, name, source): item for name, item in inner.items()}
        else:
            flat[resolve_key(config, str(key), source)] = value
    return flat


def read_settings(config: type[Options], settings: Sequence[str]) -> dict[str, Any]:
    """`--set KEY=VALUE` as `{full path: value}`; values are YAML (`3`, `true`, `[a, b]`)."""
    flat: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, such as learning_rate=0.001")
        try:
            flat[resolve_key(config, key.strip(), "--set")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting!r}: the value is not YAML: {error}") from error
    return flat


def read_file(config: type[Options], path: Path | str) -> dict[str, Any]:
    """A YAML file as `{full path: value}`.

    Raises:
        ConfigError: unreadable, not YAML, not a mapping, or with an unknown key.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        kind = type(values).__name__
        raise ConfigError(f"configuration {path}: expected a mapping of keys to values, got {kind}")
    return flatten(config, values, str(path))


def build(config: type[Config], *layers: Mapping[str, Any]) -> Config:
    """A configuration from layers of `{full path: value}`, later ones winning.

    Raises:
        ConfigError: a value of the wrong type or out of its range; names the key, the value and
            what is allowed.
    """
    nested: dict[str, Any] = {}
    for layer in layers:
        for path, value in layer.items():
            section, dot, name = path.partition(".")
            if dot:
                nested.setdefault(section, {})[name] = value
            else:
                nested[section] = value
    try:
        return config.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        where = f"{path} = {problem['input']!r}: " if path else ""
        lines.append(f"{where}{message[0].lower()}{message[1:]}")
    return "configuration: " + "; ".join(lines)
