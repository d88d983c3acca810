"""The processor that code is generated for."""

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from recurra.errors import ArgumentError

_AVX512 = ("avx512f", "avx512vl", "avx512dq", "avx512bw")
_AMX = (*_AVX512, "avx512bf16", "amx-tile", "amx-bf16")
# name -> (lanes of float32, vector registers, features that must be there)
LEVELS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "amx_fp16": (16, 32, (*_AMX, "avx512fp16", "amx-fp16")),
    "amx": (16, 32, _AMX),
    "avx512_bf16": (16, 32, (*_AVX512, "avx512bf16")),
    "avx512": (16, 32, _AVX512),
    "avx2": (8, 16, ("avx2", "fma")),
    "neon": (4, 32, ("neon",)),
    "basic": (4, 16, ()),
}
# A level that is slower than the next one on processors with a feature: where there are units for
# whole matrices of bfloat16, vectors of it take 1.5 times as long as float32 (Granite Rapids).
SLOWER = {"avx512_bf16": "amx-bf16"}
# In how many parts a product's numbers are split, two to a couple; see `couples`.
BFLOAT16 = 1  # the nearest bfloat16
HALVES = 2  # two float16, whose sum the float32 is
THIRDS = 3  # three bfloat16, whose sum it is
# Linux lends the units' registers to a process that asks: arch_prctl(ARCH_REQ_XCOMP_PERM, TILEDATA)
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


@dataclass(frozen=True)
class Host:
    """What an emitter must know: vector width in float32 lanes, and how many vector registers.

    Attributes:
        level: which of `LEVELS`.
        lanes: float32 numbers in a vector.
        registers: vector registers; decides how many rows a product block has.
        cpu, features: LLVM's names for the processor and what of it may be used.
    """

    level: str
    lanes: int
    registers: int
    cpu: str
    features: str

    def __hash__(self) -> int:
        return hash(self.level)  # asked for by every look-up of code

    @property
    def rounds_once(self) -> bool:
        """Whether it has a·b + c as one operation, with one rounding."""
        return self.level != "basic"

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has products of bfloat16 numbers with sums in float32."""
        return self.has_matrix_units or self.level == "avx512_bf16"

    @property
    def has_matrix_units(self) -> bool:
        """Whether such products are of whole matrices; see `matrix`."""
        return self.level in ("amx", "amx_fp16")

    @property
    def float32_parts(self) -> int:
        """In how many parts matrix units multiply float32; 0: there are none."""
        if not self.has_matrix_units:
            return 0
        return HALVES if self.level == "amx_fp16" else THIRDS

    def uses_units(self, parts: int) -> bool:
        """Whether they multiply couples of so many parts; 0: plain numbers, which vectors do."""
        return parts > 0 and self.has_matrix_units


@cache
def find_host(level: str | None = None) -> Host:
    """This machine at its best level, or at the one asked for.

    Args:
        level: a name in `LEVELS`; None takes the environment variable RECURRA_CPU_LEVEL as it is at
            the first call, or the best that the processor has. A lower level than the best is for
            tests: the code is then what a lesser machine would run.

    Raises:
        ArgumentError: no such level, or the processor does not have it.
    """
    asked = level or os.environ.get("RECURRA_CPU_LEVEL")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    present = llvm.get_host_cpu_features()
    is_arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    possible = [
        name
        for name, (_, _, needed) in LEVELS.items()
        if all(present.get(f) for f in needed) or (name == "neon" and is_arm)
    ]
    if "amx" in possible and not _may_use_matrix_units():
        possible = [name for name in possible if not name.startswith("amx")]
    best = next(name for name in possible if not (name in SLOWER and present.get(SLOWER[name])))
    level = asked or best
    if level not in possible:
        raise ArgumentError(
            f"RECURRA_CPU_LEVEL {level!r} is not possible on this processor; it has {possible}"
        )
    lanes, registers, needed = LEVELS[level]
    if level in (best, possible[0]):
        return Host(level, lanes, registers, llvm.get_host_cpu_name(), present.flatten())
    features = ",".join(f"+{name}" for name in needed)
    return Host(level, lanes, registers, _generic_cpu(), features)


@cache
def _may_use_matrix_units() -> bool:
    """Ask the system for the units' registers, for this process and those that it forks."""
    if platform.system() != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)


def _generic_cpu() -> str:
    is_x86 = llvm.get_process_triple().startswith(("x86_64", "amd64"))
    return "x86-64" if is_x86 else "generic"
