"""The embedded default text: the English of the installed Python's own documentation.

`pydoc_data.topics` (the language reference) and the docstrings of the standard library, read with
`ast` from its source files, and of the modules compiled into the interpreter; nothing is
downloaded. Code, tables, grammar and headings
are left out, so what remains is prose, one paragraph a line. The text depends on the version of
Python, so figures compare within one version.

The documentation repeats itself across modules, which would reward rote. So equal paragraphs are
kept once, whole documents are held out, and paragraphs of valid and test that share any sequence
of eight words with train are left out of them; `load` says how many, and gives both forms.
"""

import ast
import re
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from recurra.data.splits import TextSplits
from recurra.errors import DataError

SHARED_WORDS = 8
# Not documentation, or generated tables.
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "pydoc_data", "_ast"}
_ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`<]+?)(?:\s*<[^>]*>)?`")
_MARKUP = re.compile(r"(``?|\*\*?)(\S(?:.*?\S)?)\1")
_BULLET = re.compile(r"^\s*(?:[*•-]|\d+[.)]|\(\w\))\s+")
_UNDERLINE = re.compile(r"^\s*([=\-*~^#\"'`+.])\1{2,}\s*$")
_CODE = re.compile(r"::=|>>>|^\s*\.\.\s|\||\\\\|^\w+(\.\w+)*\(|^\w+ = |[+=-]{4,}")
_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[^\W\d_]|\s")


def load() -> TextSplits:
    """The default language-modelling text.

    Returns:
        Splits by document, about 84 : 8 : 8, the same on every machine with the same Python.
        `notes` counts the paragraphs left out; `overlapping` holds valid and test with them.

    Raises:
        DataError: this Python has no standard library sources to read.

    Example:
        >>> splits = load()
        >>> set(splits.train) & set(splits.test)
        set()
    """
    parts, repeated = _parts()
    known = _sequences(parts["train"])
    kept = {name: [p for p in parts[name] if not _overlaps(p, known)] for name in ("valid", "test")}
    notes: dict[str, int | float | str] = {
        "text": "prose of the installed Python's documentation",
        "python": sysconfig.get_python_version(),
        "repeated_paragraphs_left_out": repeated,
    }
    for name in kept:
        left_out = len(parts[name]) - len(kept[name])
        notes[f"{name}_paragraphs_left_out_for_8_words_shared_with_train"] = left_out
    overlapping = {name: parts[name] for name in kept}
    return TextSplits(parts["train"], kept["valid"], kept["test"], notes, overlapping)


def _parts() -> tuple[dict[str, list[str]], int]:
    """Paragraphs by split, each once, and how many repetitions were dropped."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    repeated = 0
    for name, texts in _documents():
        split = _split_of(name)
        for text in texts:
            for paragraph in prose(text):
                key = " ".join(_WORD.findall(paragraph.lower()))
                if key in seen:
                    repeated += 1
                    continue
                seen.add(key)
                parts[split].append(paragraph)
    if not parts["train"]:
        raise DataError(
            "this Python has no standard library sources, so there is no default text; pass --data"
        )
    return parts, repeated


def _split_of(document: str) -> str:
    """A document's split, by a checksum of its name: about 84 : 8 : 8."""
    share = zlib.crc32(document.encode()) % 100
    return "valid" if share < 8 else "test" if share < 16 else "train"


def _documents() -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of each topic, each source file of the library, each built-in module."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"topic {name}", [topics[name]]
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library)
        if not _LEFT_OUT & set(inside.parts):
            yield inside.as_posix(), _docstrings(path)
    for name in sorted(set(sys.builtin_module_names) - _LEFT_OUT):
        yield f"built-in {name}", _built_in_docstrings(name)


def _built_in_docstrings(name: str) -> list[str]:
    """Docstrings of a module that is compiled into the interpreter, its classes and methods."""
    module = import_module(name)
    owners = [module, *(v for _, v in sorted(vars(module).items()) if isinstance(v, type))]
    texts = [getattr(o, "__doc__", None) for o in owners]
    texts += [getattr(v, "__doc__", None) for o in owners for _, v in sorted(vars(o).items())]
    return [text for text in texts if isinstance(text, str)]


def _docstrings(path: Path) -> list[str]:
    """Every docstring of a source file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, not a module
        return []
    return [text for node in _documented(tree) if (text := ast.get_docstring(node, clean=False))]


def _documented(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """The module, its classes and functions; statements only, which `ast.walk` goes far below."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node  # type: ignore[misc]
        for block in ("body", "orelse", "finalbody", "handlers"):
            children = getattr(node, block, ())
            pending += [c for c in children if isinstance(c, ast.stmt | ast.excepthandler)]


def prose(text: str) -> Iterator[str]:
    """The English paragraphs of a docstring or topic, each on one line.

    Example:
        >>> list(prose("Copy a file.\\n\\nThe ``target`` must not\\nexist yet, or *else*.\\n"))
        ['The target must not exist yet, or else.']
    """
    introduces_code = False
    for block in re.split(r"\n\s*\n", cleandoc(text).expandtabs()):
        lines = [line for line in block.split("\n") if not _UNDERLINE.match(line)]
        if not lines:
            continue
        has_heading = len(lines) < len(block.split("\n"))
        is_indented = lines[0].startswith(("  ", "\t"))
        if introduces_code and is_indented and not _BULLET.match(lines[0]):
            continue
        introduces_code = lines[-1].rstrip().endswith(":")
        for paragraph in [] if has_heading else _items(lines):
            cleaned = _without_markup(paragraph)
            if _is_prose(cleaned):
                yield cleaned


def _items(lines: list[str]) -> Iterator[str]:
    """A block's paragraphs: itself, or the items of a list without blank lines."""
    item: list[str] = []
    for line in lines:
        if _BULLET.match(line) and item:
            yield " ".join(item)
            item = []
        item.append(_BULLET.sub("", line).strip())
    yield " ".join(item)


def _without_markup(text: str) -> str:
    text = _MARKUP.sub(r"\2", _ROLE.sub(r"\1", text)).replace("’", "'")
    return re.sub(r"\s+", " ", text).removesuffix("::").strip()


def _is_prose(text: str) -> bool:
    """Four words or more, mostly letters, no code; a line of words must end like a sentence."""
    words = len(_WORD.findall(text))
    letters = len(_LETTERS.findall(text))
    is_sentence = text.endswith((".", "!", "?", ":", ".)", '."')) or words >= 10
    return words >= 4 and letters >= 0.8 * len(text) and is_sentence and not _CODE.search(text)


def _sequences(lines: Iterable[str]) -> set[tuple[str, ...]]:
    return {s for line in lines for s in _windows(line)}


def _windows(line: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(line.lower())
    return zip(*(words[k:] for k in range(SHARED_WORDS)), strict=False)


def _overlaps(line: str, known: set[tuple[str, ...]]) -> bool:
    return any(window in known for window in _windows(line))
