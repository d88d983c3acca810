"""From LLVM code to machine code in memory, kept on disk between processes.

Environment variables (this is the table; `cache_folder` reads them):

    RECURRA_CACHE_DIR   where compiled kernels are kept; default: the user's cache folder
                        ($XDG_CACHE_HOME/recurra or ~/.cache/recurra). Empty: keep nothing on disk.
    RECURRA_CPU_LEVEL   see `recurra.kernels.cpu.host.find_host`
"""

import contextlib
import ctypes
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.threads import run_parallel

NOTICE_AFTER_S = 1.0
_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class MachineCode:
    """Functions in memory, by name; lives as long as this object."""

    def __init__(self, binary: bytes, machine: llvm.TargetMachine) -> None:
        empty = llvm.parse_assembly("")
        empty.triple = machine.triple
        self._engine = llvm.create_mcjit_compiler(empty, machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(binary))
        self._engine.finalize_object()
        self._addresses: dict[str, int] = {}
        self._functions: dict[str, tuple[Callable[[int, int, int], None], int]] = {}

    def address(self, name: str) -> int:
        if name not in self._addresses:
            self._addresses[name] = int(self._engine.get_function_address(name))
        return self._addresses[name]

    def run(self, name: str, values: ctypes.Array[ctypes.c_int64], threads: int) -> None:
        """Call a function `(arguments, thread, threads)` by so many threads, or by this one alone.

        A team enters it by `{name}_entry`; see `flow.build_entry`.
        """
        found = self._functions.get(name)
        if found is None:
            function, entry = _Function(self.address(name)), self.address(f"{name}_entry")
            found = self._functions[name] = function, entry
        arguments = ctypes.addressof(values)
        if not run_parallel(found[1], arguments, threads):
            found[0](arguments, 0, 1)


def compile_cached(name: str, key: str, build: Callable[[], ir.Module], host: Host) -> MachineCode:
    """The machine code of a module, from disk if an equal one was compiled before.

    Args:
        name: for the notice and the file's name.
        key: everything that the code depends on, besides the host and the versions of recurra's
            emitters and of LLVM, which are added.
        build: makes the module; called only if there is no file.
        host: for which processor.
    """
    machine = _target_machine(host)
    file = _file(name, key, host)
    binary = _read(file)
    if binary is None:
        started = time.monotonic()
        binary = _compile(build(), machine, host)
        _write(file, binary)
        seconds = time.monotonic() - started
        if seconds > NOTICE_AFTER_S:
            where = f", kept in {file.parent}" if file else ""
            print(f"recurra: compiled {name} in {seconds:.1f} s{where}", file=sys.stderr)
    return MachineCode(binary, machine)


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None for nowhere."""
    chosen = os.environ.get("RECURRA_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "recurra"


def _target_machine(host: Host) -> llvm.TargetMachine:
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=host.cpu,
        features=host.features,
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _emitters() -> str:
    """A digest of the code that writes code: another emitter, another file."""
    digest = hashlib.sha256(f"{llvmlite.__version__} {version('recurra')}".encode())
    for source in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _file(name: str, key: str, host: Host) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    parts = "\n".join((key, repr(host), _emitters()))
    return folder / f"{name}-{hashlib.sha256(parts.encode()).hexdigest()[:32]}.o"


def _read(file: Path | None) -> bytes | None:
    """The code of a file whose digest, its first 32 bytes, is right; None otherwise."""
    if file is None or not file.is_file():
        return None
    content = file.read_bytes()
    digest, binary = content[:32], content[32:]
    return binary if hashlib.sha256(binary).digest() == digest else None


def _write(file: Path | None, binary: bytes) -> None:
    """Put a file in place at once, so that no other process sees half of it.

    A folder that cannot be written costs the next process its compilation and nothing else.
    """
    if file is None:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(binary).digest() + binary)
        os.replace(partial, file)


def _compile(module: ir.Module, machine: llvm.TargetMachine, host: Host) -> bytes:
    parsed = llvm.parse_assembly(_with_width(str(module), host))
    parsed.triple = machine.triple
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return bytes(machine.emit_object(parsed))


def _with_width(text: str, host: Host) -> str:
    """Tell LLVM that our vectors are to be used as wide as they are written.

    For some processors it would otherwise cut vectors of 512 bits in two.
    """
    bits = host.lanes * 32
    attributes = f'"prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}" nounwind'
    lines = [
        f"{line} {attributes}" if line.startswith("define ") else line for line in text.split("\n")
    ]
    return "\n".join(lines)
