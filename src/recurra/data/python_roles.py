"""The embedded default of tagging: the role of each token of Python source.

The installed standard library's own source files are read with `ast` and `tokenize`; nothing is
downloaded. A sentence is a logical line, a token what `tokenize` gives, and its role what the
syntax tree says of it, so that the labels are right by construction. Which role a name has is often
told by other words of the line, not by the name: `time` may be a module, a parameter, an attribute.
The text depends on the version of Python, so figures compare within one version.

    keyword constant operator number string    told by the token itself
    function method class parameter            names that `def` and `class` give
    module import alias                        names in import statements
    target field                               names and attributes that are assigned to
    variable attribute                         names and attributes that are read
    call method_call argument                  names and attributes that are called; f(argument=…)
    annotation base decorator exception        names where types, bases, … stand
    name                                       any other name (in `global`, in patterns, …)

Files are held out whole. Source repeats itself, which would reward rote: each line is kept once,
and lines of valid and test that stand in train, too, are left out of them.
"""

import ast
import io
import keyword
import os
import sysconfig
import tokenize
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from recurra.data.tagged_text import TaggedSplits, TaggedText
from recurra.errors import DataError

# tokens that each part holds at least, before repeated lines are left out; read in this order
SIZES = {"test": 14_000, "valid": 14_000, "train": 150_000}
LARGEST_FILE_BYTES = 40_000
SHORTEST, LONGEST = 3, 60  # tokens of a line
_LEFT_OUT = {
    *("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"),
    *("pydoc_data", "encodings", "lib2to3"),
}
_SKIPPED = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
_NAMED_ROLES = {"False": "constant", "None": "constant", "True": "constant"}
Places = dict[tuple[int, int], str]


def load() -> TaggedSplits:
    """The default data of tagging.

    Returns:
        Splits by file, the same on every machine with the same library; `notes` says of how many
        files, and how many lines were left out.

    Raises:
        DataError: this Python has no standard library sources to read.

    Example:
        >>> splits = load()
        >>> 100_000 < splits.train.tokens < 200_000
        True
    """
    parts: dict[str, list[tuple[list[str], list[str]]]] = {name: [] for name in SIZES}
    files = dict.fromkeys(SIZES, 0)
    sources = _sources(Path(sysconfig.get_path("stdlib")))
    for name, size in SIZES.items():
        tokens = 0
        while tokens < size and (source := next(sources, None)) is not None:
            found = list(label(source))
            parts[name] += found
            tokens += sum(len(words) for words, _ in found)
            files[name] += 1
    if not all(parts.values()):
        raise DataError(
            "this Python has no standard library sources, so there is no default text; pass --data"
        )
    total = sum(map(len, parts.values()))
    seen: set[tuple[str, ...]] = set()
    kept = {name: _once(parts[name], seen) for name in ("train", "valid", "test")}
    notes: dict[str, int | float | str] = {
        "text": "roles of the tokens of Python's own standard library",
        "python": sysconfig.get_python_version(),
        **{f"{name}_files": count for name, count in files.items()},
        "repeated_lines_left_out": total - len(seen),
    }
    return TaggedSplits(kept["train"], kept["valid"], kept["test"], notes)


def label(source: str) -> Iterator[tuple[list[str], list[str]]]:
    """The logical lines of a source text, as tokens and their roles.

    Lines of fewer than 3 or more than 60 tokens are left out.

    Args:
        source: ASCII only, since `ast` counts bytes and `tokenize` characters.

    Example:
        >>> for words, roles in label("def f(x):\\n    return os.path.join(x, sep=1)\\n"):
        ...     print(*(f"{word}/{role}" for word, role in zip(words, roles)))
        ... # doctest: +NORMALIZE_WHITESPACE
        def/keyword f/function (/operator x/parameter )/operator :/operator
        return/keyword os/variable ./operator path/attribute ./operator join/method_call
        (/operator x/variable ,/operator sep/argument =/operator 1/number )/operator
    """
    places = _places(ast.parse(source))
    words: list[str] = []
    roles: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if SHORTEST <= len(words) <= LONGEST:
                yield words, roles
            words, roles = [], []
        elif token.type not in _SKIPPED and token.string.strip():
            before = words[-1] if words else ""
            words.append(token.string)
            roles.append(_role(token, places, before, words))
    if SHORTEST <= len(words) <= LONGEST:
        yield words, roles


def _role(token: tokenize.TokenInfo, places: Places, before: str, words: list[str]) -> str:
    if token.type == tokenize.OP:
        return "operator"
    if token.type == tokenize.NUMBER:
        return "number"
    if token.type != tokenize.NAME:
        return "string"
    if token.string in _NAMED_ROLES:
        return _NAMED_ROLES[token.string]
    if keyword.iskeyword(token.string):
        return "keyword"
    if token.start in places:
        return places[token.start]
    if words[0] in ("import", "from"):
        if before == "as":
            return "alias"
        return "module" if words[0] == "import" or "import" not in words else "import"
    return "target" if words[0] == "except" and before == "as" else "name"


def _places(tree: ast.Module) -> Places:
    """Roles by (line, column) of the names that the tree tells."""
    places: Places = {}
    pending: list[tuple[ast.AST, str | None]] = [(tree, None)]
    while pending:
        node, role = pending.pop()
        pending += _inside(node, role, places)
    return places


def _inside(
    node: ast.AST, role: str | None, places: Places
) -> Iterable[tuple[ast.AST, str | None]]:
    """Note the role of a node's own name; give the nodes below it with what they are used as."""
    if isinstance(node, ast.Name):
        is_read = isinstance(node.ctx, ast.Load)
        places[node.lineno, node.col_offset] = (role or "variable") if is_read else "target"
        return []
    if isinstance(node, ast.Attribute):
        _note_attribute(node, role, places)
        return [(node.value, None)]
    if isinstance(node, ast.Call):
        called = role if role in ("decorator", "exception") else "call"
        return [(node.func, called), *((n, None) for n in (*node.args, *node.keywords))]
    if isinstance(node, ast.keyword):
        if node.arg is not None:
            places[node.lineno, node.col_offset] = "argument"
        return [(node.value, None)]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return _definition(node, role, places)
    if isinstance(node, ast.arg):
        places[node.lineno, node.col_offset] = "parameter"
        return [(node.annotation, "annotation")] if node.annotation else []
    if isinstance(node, ast.AnnAssign):
        value = [(node.value, None)] if node.value else []
        return [(node.target, None), (node.annotation, "annotation"), *value]
    if isinstance(node, ast.ExceptHandler):
        caught = [(node.type, "exception")] if node.type else []
        return [*caught, *((n, None) for n in node.body)]
    if isinstance(node, ast.Raise):
        cause = [(node.cause, None)] if node.cause else []
        return [*([(node.exc, "exception")] if node.exc else []), *cause]
    passes = isinstance(node, ast.Tuple | ast.Subscript | ast.BinOp) and role in (
        "annotation",
        "exception",
    )
    return [(child, role if passes else None) for child in ast.iter_child_nodes(node)]


def _note_attribute(node: ast.Attribute, role: str | None, places: Places) -> None:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    at = node.end_lineno, node.end_col_offset - len(node.attr)
    if not isinstance(node.ctx, ast.Load):
        places[at] = "field"
    else:
        places[at] = "method_call" if role == "call" else role or "attribute"


def _definition(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, role: str | None, places: Places
) -> list[tuple[ast.AST, str | None]]:
    """A function or class: its name stands after its keyword."""
    below: list[tuple[ast.AST, str | None]] = [(n, "decorator") for n in node.decorator_list]
    if isinstance(node, ast.ClassDef):
        own, words, inner = "class", "class ", "in class"
        below += [(n, "base") for n in node.bases] + [(n, None) for n in node.keywords]
    else:
        own, words, inner = ("method" if role == "in class" else "function"), "def ", None
        is_async = isinstance(node, ast.AsyncFunctionDef)
        words = "async def " if is_async else words
        below.append((node.args, None))
        below += [(node.returns, "annotation")] if node.returns else []
    places[node.lineno, node.col_offset + len(words)] = own
    return below + [(n, inner) for n in node.body]


def _sources(library: Path) -> Iterator[str]:
    """Source texts of the library, in the order of a checksum of their names."""
    names = sorted(_names(library), key=lambda name: (zlib.crc32(name.encode()), name))
    for name in names:
        path = library / name
        if path.stat().st_size > LARGEST_FILE_BYTES:
            continue
        try:
            source = path.read_text(encoding="ascii")
            ast.parse(source)
        except (SyntaxError, ValueError):  # a template, or not ASCII
            continue
        yield source


def _names(library: Path) -> Iterator[str]:
    for folder, inside, files in os.walk(library):
        inside[:] = [name for name in inside if name not in _LEFT_OUT]
        for name in files:
            if name.endswith(".py"):
                yield (Path(folder) / name).relative_to(library).as_posix()


def _once(sentences: list[tuple[list[str], list[str]]], seen: set[tuple[str, ...]]) -> TaggedText:
    """Sentences whose words were not seen before."""
    words, roles = [], []
    for sentence, tags in sentences:
        key = tuple(sentence)
        if key not in seen:
            seen.add(key)
            words.append(sentence)
            roles.append(tags)
    return TaggedText(words, roles, "Python's standard library")
