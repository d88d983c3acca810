"""The rules that hold the tree together: direction of imports, lazy imports, public names."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import recurra

PACKAGE = Path(recurra.__file__).parent
# A folder may import itself, what stands before it, and nothing after it.
ORDER = [
    "errors",
    "cells",
    "reference",
    "kernels",
    "layers",
    "testing",
    "data",
    "models",
    "tasks",
    "training",
    "insight",
    "jobs",
    "cli",
]
MAY_NOT_SEE = {"models": {"data"}, "data": {"cells", "reference", "kernels", "layers", "testing"}}
# Imported by generated code only, when a kernel is first built.
LAZY = {Path("kernels/triton/functions.py")}
HEAVY = {"lightning", "matplotlib", "triton", "fastapi", "torchmetrics", "sacrebleu"}


def _imports(path: Path) -> list[tuple[int, str, bool]]:
    """(line, module, whether at module level) of every import, also under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "recurra":
                names = [f"recurra.{alias.name}" for alias in node.names]
            found += [(node.lineno, name, id(node) not in inside) for name in names]
    return found


def _part(module: str) -> str | None:
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "recurra" and len(pieces) > 1 else None


def test_imports_point_one_way() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in ORDER, f"{path}: {own} has no place in the order of imports"
        for line, module, _ in _imports(path):
            other = _part(module)
            if other is None or other == "__version__":
                continue
            is_upward = ORDER.index(other) > ORDER.index(own)
            if is_upward or other in MAY_NOT_SEE.get(own, ()):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_heavy_imports_are_lazy() -> None:
    """`import recurra` and the command line's help load neither torch nor a plotting library."""
    code = (
        "import sys, recurra, recurra.cli.main; "
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'triton') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_low_folders_import_nothing_heavy() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for folder in ("cells", "kernels", "layers", "models", "data")
        for path in (PACKAGE / folder).rglob("*.py")
        if path.relative_to(PACKAGE) not in LAZY
        for line, module, is_at_top in _imports(path)
        if is_at_top and module.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_public_names_resolve_and_are_sorted() -> None:
    assert recurra.__all__ == sorted(recurra.__all__)
    for name in recurra.__all__:
        assert getattr(recurra, name) is not None


def test_help_is_quick() -> None:
    """Half a second of processor time, which a busy machine does not stretch as it does wall time.

    Twice that is let pass, for processors of half the speed of the one that it was measured on.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "recurra.cli.main", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 1.0
