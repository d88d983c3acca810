"""The functions of one vector beside those of numpy in float64, over their whole range."""

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from llvmlite import ir

from recurra.errors import ArgumentError
from recurra.kernels.cpu.compiler import compile_cached
from recurra.kernels.cpu.flow import loop
from recurra.kernels.cpu.host import LEVELS, Host, find_host
from recurra.kernels.cpu.vector import I64, POINTER, Vectors, offset

Numbers = np.ndarray
SMALL = np.logspace(-37, 0, 4001)
LARGE = np.linspace(0.0, 87.0, 40_001)
BOTH = np.concatenate([-LARGE, -SMALL, SMALL, LARGE])
POSITIVE = np.logspace(-37, 38, 40_001)


def _sigmoid(a: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-a))


FUNCTIONS: dict[str, tuple[Callable[[Numbers], Numbers], Numbers]] = {
    "exp": (np.exp, BOTH),
    "expm1": (np.expm1, BOTH),
    "sigmoid": (_sigmoid, BOTH),
    "tanh": (np.tanh, BOTH),
    "log": (np.log, POSITIVE),
    "log1p": (np.log1p, np.concatenate([-SMALL[:-1], POSITIVE])),
}


def _host(level: str) -> Host:
    try:
        return find_host(level)
    except ArgumentError:
        pytest.skip(f"this processor has no {level}")


def _apply(name: str, a: Numbers, host: Host) -> Numbers:
    """The function of each number, by generated code."""

    def build() -> ir.Module:
        module = ir.Module(name)
        type_ = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, I64])
        function = ir.Function(module, type_, "run")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        source, target, count = function.args
        v = Vectors(builder, host)
        with loop(builder, 0, count, host.lanes) as j:
            value = v.apply(name, v.load(offset(builder, source, j)))
            v.store(value, offset(builder, target, j))
        builder.ret_void()
        return module

    code = compile_cached(f"test {name}", f"test {name}", build, host)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        code.address("run")
    )
    count = -(-len(a) // host.lanes) * host.lanes
    given, found = np.zeros(count, np.float32), np.zeros(count, np.float32)
    given[: len(a)] = a
    run(given.ctypes.data, found.ctypes.data, count)
    return found[: len(a)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_a_millionth(
    name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurra.kernels.cpu.compiler._file", lambda *parts: None)
    function, numbers = FUNCTIONS[name]
    given = numbers.astype(np.float32)
    expected = function(given.astype(np.float64))
    found = _apply(name, given, _host(level)).astype(np.float64)
    is_normal = np.abs(expected) > np.finfo(np.float32).tiny
    error = np.abs(found - expected)[is_normal] / np.abs(expected)[is_normal]
    assert error.max() < 1e-6
    assert np.all(np.abs(found - expected)[~is_normal] < 2 * np.finfo(np.float32).tiny)


@pytest.mark.parametrize("level", LEVELS)
def test_functions_keep_nan_and_know_their_limits(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurra.kernels.cpu.compiler._file", lambda *parts: None)
    host, inf, nan = _host(level), np.inf, np.nan
    limits = {
        "exp": (0.0, inf),
        "expm1": (-1.0, inf),
        "sigmoid": (0.0, 1.0),
        "tanh": (-1.0, 1.0),
    }
    for name, (low, high) in limits.items():
        for ends in ((-inf, inf), (-1e30, 1e30), (-100.0, 100.0)):
            found = _apply(name, np.array([*ends, nan, 0.0], np.float32), host)
            np.testing.assert_allclose(found[:2], (low, high), rtol=1e-7, atol=2e-38)
            assert np.isnan(found[2])
            assert found[3] == {"exp": 1.0, "sigmoid": 0.5}.get(name, 0.0)
