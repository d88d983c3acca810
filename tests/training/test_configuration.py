"""Strict configurations: every mistake is named, with where it is and what was meant."""

import pytest
from pydantic import Field

from recurra.errors import ConfigError
from recurra.training.configuration import Options, build, flatten, read_file, read_settings


class Engine(Options):
    power: int = Field(100, ge=1)
    fuel: str = "electric"


class Car(Options):
    engine: Engine = Engine()
    seats: int = 4


def test_flat_and_full_keys_mean_the_same():
    flat = build(Car, flatten(Car, {"power": 120}, "test"))
    full = build(Car, flatten(Car, {"engine.power": 120}, "test"))
    nested = build(Car, flatten(Car, {"engine": {"power": 120}}, "test"))
    assert flat == full == nested == Car(engine=Engine(power=120))


def test_later_layers_win():
    assert build(Car, {"seats": 2, "engine.power": 7}, {"seats": 5}) == Car(
        seats=5, engine=Engine(power=7)
    )


def test_an_unknown_key_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"--set: unknown key 'powr'; did you mean 'power'\?"):
        read_settings(Car, ["powr=3"])
    with pytest.raises(ConfigError, match=r"unknown key 'engine.fule'; did you mean 'engine.fuel'"):
        flatten(Car, {"engine": {"fule": "coal"}}, "test")
    with pytest.raises(ConfigError, match=r"known keys: engine\.fuel, engine\.power, fuel"):
        flatten(Car, {"xyzzy": 1}, "test")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("power", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("power=[1", "the value is not YAML"),
    ],
)
def test_a_setting_of_the_wrong_form_is_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        read_settings(Car, [setting])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine.power": 0}, r"engine\.power = 0: input should be greater than or equal to 1"),
        ({"engine.power": "much"}, r"engine\.power = 'much': input should be a valid integer"),
        ({"engine.power": float("nan")}, r"engine\.power = nan"),
        ({"seats": 2.5}, r"seats = 2\.5"),
    ],
)
def test_a_wrong_value_names_its_key_and_what_is_allowed(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Car, values)


def test_values_of_settings_are_yaml():
    assert read_settings(Car, ["power=7", "fuel=wood"]) == {
        "engine.power": 7,
        "engine.fuel": "wood",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected a mapping of keys to values, got list"),
        (b"a: [1", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"powr: 1\n", r"car\.yaml: unknown key 'powr'; did you mean 'power'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    path = tmp_path / "car.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_file(Car, path)


def test_a_missing_file_is_named_and_an_empty_one_sets_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        read_file(Car, tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert read_file(Car, tmp_path / "empty.yaml") == {}
