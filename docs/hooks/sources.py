"""`source: recurra.cells.gru.step` on a line of a page becomes that definition, out of the file.

The code is found by its name, so the page cannot go stale: a name that is gone stops the build.
A definition is shown without its docstring, whose equations the page has already. Further words on
the line, in quotes, choose the lines from the first to the last that has them:
`source: recurra.models.nnlm.NNLM.features "x = " "hidden = "`.
"""

import ast
import re
import shlex
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[2]
DIRECTIVE = re.compile(r"^source: (.+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the definitions in."""
    return DIRECTIVE.sub(lambda found: source(*shlex.split(found[1])), markdown)


def source(name: str, *shown: str) -> str:
    """A fenced block of the definition, or of the lines in it from `shown[0]` to `shown[-1]`.

    Raises:
        LookupError: no such definition, or no such line in it.
    """
    path, definition = _find(name)
    lines = path.read_text(encoding="utf-8").splitlines()
    first, last = definition.lineno, definition.end_lineno or definition.lineno
    numbers = sorted(set(range(first, last + 1)) - _docstring(definition))
    if shown:
        places = [_place(lines, numbers, words, name) for words in (shown[0], shown[-1])]
        numbers = [n for n in numbers if places[0] <= n <= places[1]]
    code = dedent("\n".join(lines[n - 1] for n in numbers))
    where = f"{path.relative_to(ROOT)}, line {numbers[0]}"
    return f'``` {{ .python title="{where}" }}\n{code}\n```'


def _find(name: str) -> tuple[Path, Any]:
    """The file of a dotted name, and the node of its definition."""
    parts = name.split(".")
    for k in range(len(parts) - 1, 0, -1):
        path = (ROOT / "src").joinpath(*parts[:k]).with_suffix(".py")
        if path.exists():
            node: Any = ast.parse(path.read_text(encoding="utf-8"))
            for part in parts[k:]:
                node = next((n for n in node.body if _is_named(n, part)), None)
                if node is None:
                    raise LookupError(f"source: {name}: {path} has no {part}")
            return path, node
    raise LookupError(f"source: {name}: there is no such module")


def _is_named(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    return getattr(node, "name", None) == name


def _docstring(node: Any) -> set[int]:
    """The numbers of the lines of a definition's docstring."""
    first = node.body[0] if getattr(node, "body", None) else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return set(range(first.lineno, first.end_lineno + 1)) if is_docstring else set()


def _place(lines: list[str], numbers: list[int], words: str, name: str) -> int:
    for n in numbers:
        if words in lines[n - 1]:
            return n
    raise LookupError(f"source: {name} has no line with {words!r}")
