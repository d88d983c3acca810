"""The embedded default text: the English of the installed Python's own documentation.

`pydoc_data.topics` (the language reference) and the docstrings of the standard library, read with
`ast` from its source files, and of the modules that are always compiled into the interpreter;
nothing is downloaded. Code, tables, grammar, signatures and headings are left out, so what remains
is prose, one paragraph a line. The text depends on the version of Python, so figures compare
within one version.

The documentation repeats itself across modules, which would reward rote. So equal paragraphs are
kept once, whole documents are held out, and paragraphs of valid and test that share any sequence
of eight words with train are left out of them; `load` says how many, and gives both forms.
"""

import ast
import gc
import os
import re
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import cleandoc, isclass, isroutine
from pathlib import Path

from recurra.data.splits import TextSplits
from recurra.errors import DataError

SHARED_WORDS = 8
HELD_OUT = 0.05
# Tests; other people's packages; codec tables and fixers of Python 2, which are code in the main.
_LEFT_OUT = {
    *("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"),
    *("pydoc_data", "encodings", "lib2to3"),
}
# Always compiled in, so they are there on every machine; importing them runs no code of Python.
_COMPILED_IN = (
    *("builtins", "sys", "_io", "_codecs", "_collections", "_functools", "_operator", "_sre"),
    *("_signal", "_stat", "_string", "_thread", "_tracemalloc", "_warnings", "_weakref", "_abc"),
    *("_imp", "atexit", "errno", "faulthandler", "gc", "itertools", "marshal", "posix", "time"),
)
_NESTING = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.Try, ast.With),
    *(ast.For, ast.While, ast.ExceptHandler),
)
_ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`<]+?)(?:\s*<[^>]*>)?`")
_MARKUP = re.compile(r"(``?|\*\*?)(\S(?:.*?\S)?)\1")
_SIGNATURE = re.compile(r"^[\w.]+\([^()]*\)\s*(?:->\s*[\w.]+\b\.?|--)\s*(?:--|-|:)?\s*")
_BULLET = re.compile(r"^\s*(?:[*•-]|\d+[.)]|\(\w\))\s+")
_UNDERLINE = re.compile(r"^\s*([=\-*~^#\"'`+.])\1{2,}\s*$")
_CODE = re.compile(r"::=|>>>|^\s*\.\.\s|^\||\|\s*\||\\\\|^\w+ = |[+=-]{4,}")
_SENTENCE = re.compile(r"[A-Z\"'].*[.!?]$", re.DOTALL)
_WORD = re.compile(r"\w+")
_NO_LETTER = re.compile(r"[\W\d_](?<!\s)")


def load() -> TextSplits:
    """The default language-modelling text.

    Returns:
        Splits by document, about 90 : 5 : 5, the same on every machine with the same library.
        `notes` counts the paragraphs left out; `overlapping` holds valid and test with them.

    Raises:
        DataError: this Python has no standard library sources to read.

    Example:
        >>> splits = load()
        >>> set(splits.train) & set(splits.test)
        set()
    """
    with _without_garbage_collection():
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
    documents, repeated = _without_repetitions(
        (name, [p for text in texts for p in prose(text)]) for name, texts in _documents()
    )
    if not any(documents.values()):
        raise DataError(
            "this Python has no standard library sources, so there is no default text; pass --data"
        )
    splits = _assign({name: sum(map(len, texts)) for name, texts in documents.items()})
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for name, paragraphs in documents.items():
        parts[splits[name]] += paragraphs
    return parts, repeated


def _without_repetitions(
    documents: Iterable[tuple[str, list[str]]],
) -> tuple[dict[str, list[str]], int]:
    """Each paragraph once, where it comes first; equal words make equal paragraphs."""
    seen: set[str] = set()
    kept: dict[str, list[str]] = {}
    total = 0
    for name, paragraphs in documents:
        kept[name] = []
        for paragraph in paragraphs:
            total += 1
            key = " ".join(_WORD.findall(paragraph.lower()))
            if key not in seen:
                seen.add(key)
                kept[name].append(paragraph)
    return kept, total - len(seen)


def _assign(sizes: dict[str, int]) -> dict[str, str]:
    """A split for each document: in the order of a checksum of their names, the first twentieth of
    the text is for test, the second for valid, the rest to train on."""
    total, so_far = sum(sizes.values()), 0
    splits = {}
    for name in sorted(sizes, key=lambda name: (zlib.crc32(name.encode()), name)):
        so_far += sizes[name]
        share = so_far / total
        splits[name] = (
            "test" if share <= HELD_OUT else "valid" if share <= 2 * HELD_OUT else "train"
        )
    return splits


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Syntax trees are millions of live objects; searching them for garbage triples the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _documents() -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of each topic, each source file of the library, each compiled-in module."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"topic {name}", [topics[name]]
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(_sources(library)):
        yield path.relative_to(library).as_posix(), _docstrings(path)
    for name in sorted(set(_COMPILED_IN) & set(sys.builtin_module_names)):
        yield f"compiled {name}", _compiled_docstrings(name)


def _sources(library: Path) -> Iterator[Path]:
    for folder, inside, files in os.walk(library):
        inside[:] = [name for name in inside if name not in _LEFT_OUT]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _compiled_docstrings(name: str) -> list[str]:
    """Docstrings of a compiled-in module, its own functions and classes and their members.

    What a program has put into the module, as test runners do with `sys`, is not the module's own.
    """
    own = {
        key: value
        for key, value in sorted(vars(import_module(name)).items())
        if isroutine(value) or isclass(value)
        if getattr(value, "__module__", None) == name
    }
    members = [m for v in own.values() if isclass(v) for _, m in sorted(vars(v).items())]
    owners = [import_module(name), *own.values(), *members]
    texts = [getattr(owner, "__doc__", None) for owner in owners]
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))


def _docstrings(path: Path) -> list[str]:
    """Every docstring of a source file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, not a module
        return []
    return [text for node in _documented(tree) if (text := ast.get_docstring(node, clean=False))]


def _documented(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """The module, its classes and functions; without expressions, where `ast.walk` is slow."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node  # type: ignore[misc]
        for block in ("body", "orelse", "finalbody", "handlers"):
            pending += [c for c in getattr(node, block, ()) if isinstance(c, _NESTING)]


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
        may_be_code = introduces_code and is_indented and not _BULLET.match(lines[0])
        if not may_be_code:
            introduces_code = lines[-1].rstrip().endswith(":")
        for paragraph in [] if has_heading else _items(lines):
            cleaned = _without_markup(paragraph)
            if _is_prose(cleaned) and (not may_be_code or _SENTENCE.match(cleaned)):
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
    text = _SIGNATURE.sub("", _MARKUP.sub(r"\2", _ROLE.sub(r"\1", text)))
    text = text.replace("’", "'").replace("“", '"').replace("”", '"')
    return re.sub(r"\s+", " ", text).removesuffix("::").strip()


def _is_prose(text: str) -> bool:
    """Four words or more, mostly letters, no code; a line of words must end like a sentence."""
    words = len(_WORD.findall(text))
    others = len(_NO_LETTER.findall(text))
    is_sentence = text.endswith((".", "!", "?", ":", ".)", '."')) or words >= 10
    return words >= 4 and others <= 0.2 * len(text) and is_sentence and not _CODE.search(text)


def _sequences(lines: Iterable[str]) -> set[tuple[str, ...]]:
    return {s for line in lines for s in _windows(line)}


def _windows(line: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(line.lower())
    return zip(*(words[k:] for k in range(SHARED_WORDS)), strict=False)


def _overlaps(line: str, known: set[tuple[str, ...]]) -> bool:
    return any(window in known for window in _windows(line))
