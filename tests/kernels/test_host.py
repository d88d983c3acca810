"""Which level of vectors a processor is given."""

import llvmlite.binding as llvm
import pytest

from recurra.errors import ArgumentError
from recurra.kernels.cpu import host as host_module
from recurra.kernels.cpu.host import LEVELS, find_host

AVX512 = LEVELS["avx512_bf16"][2]
AMX = (*LEVELS["amx"][2], "avx2", "fma")


def _pretend(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    found = llvm.FeatureMap(dict.fromkeys(features, True))
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: found)
    monkeypatch.delenv("RECURRA_CPU_LEVEL", raising=False)


@pytest.mark.parametrize(
    ("features", "level"),
    [
        ((), "basic"),
        (("avx2", "fma"), "avx2"),
        ((*AVX512[:-1], "avx2", "fma"), "avx512"),
        ((*AVX512, "avx2", "fma"), "avx512_bf16"),
        ((*AVX512, "avx2", "fma", "amx-bf16"), "avx512"),
        (AMX, "amx"),
        ((*AMX, "avx512fp16", "amx-fp16"), "amx_fp16"),
        ((*AMX, "amx-fp16"), "amx"),
    ],
)
def test_the_fastest_level_is_taken(
    features: tuple[str, ...], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, *features)
    monkeypatch.setattr(host_module, "_may_use_matrix_units", lambda: True)
    host = find_host.__wrapped__()
    assert host.level == level
    assert all(f"+{feature}" in host.features for feature in features)


def test_a_slower_level_can_be_asked_for_and_a_missing_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend(monkeypatch, *AVX512, "avx2", "fma", "amx-bf16")
    assert find_host.__wrapped__("avx512_bf16").multiplies_bfloat16
    assert find_host.__wrapped__("avx2").features == "+avx2,+fma"
    _pretend(monkeypatch, "avx2", "fma")
    with pytest.raises(ArgumentError, match="'avx512' is not possible"):
        find_host.__wrapped__("avx512")


def test_matrix_units_are_left_alone_where_the_system_does_not_lend_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend(monkeypatch, *AMX, "avx512fp16", "amx-fp16")
    monkeypatch.setattr(host_module, "_may_use_matrix_units", lambda: False)
    assert find_host.__wrapped__().level == "avx512"
