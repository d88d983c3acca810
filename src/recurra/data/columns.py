"""Readers of tagged files: CoNLL-U, and columns as in CoNLL-2000 and CoNLL-2003."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from recurra.data.tagged_text import TaggedText, joined
from recurra.data.text import expand_paths, iterate_lines
from recurra.errors import DataError

# https://universaldependencies.org/format.html
CONLLU_COLUMNS = (
    *("id", "form", "lemma", "upos", "xpos"),
    *("feats", "head", "deprel", "deps", "misc"),
)
# Tjong Kim Sang & Buchholz 2000; Tjong Kim Sang & De Meulder 2003; word and tag alone
NAMED_COLUMNS = {
    2: ("word", "tag"),
    3: ("word", "pos", "chunk"),
    4: ("word", "pos", "chunk", "ner"),
}
_WORD_ID = re.compile(r"[1-9][0-9]*$")
_SKIPPED_ID = re.compile(r"[0-9]+([-.][0-9]+)$")
_DOCUMENT = "-DOCSTART-"
Rows = list[list[str]]


def read_tagged(
    paths: Sequence[str | Path], column: str | int | None = None, *, tagged: bool = True
) -> TaggedText:
    """The sentences of tagged files, each CoNLL-U or columns, which their first line tells.

    A file is CoNLL-U if its first line that is neither blank nor a comment has ten tabbed columns
    with an id in front. Any other file has columns between tabs, if its first line has a tab, or
    between blanks; all its lines have the same number of columns, the word comes first. Blank
    lines, which may hold blanks and tabs, end sentences.

    Args:
        paths: files, folders or globs.
        column: where the tag is: a name (CoNLL-U: `upos`, `xpos`, `feats`, `deprel`, …; two
            columns: `tag`; three: `pos`, `chunk`; four: `pos`, `chunk`, `ner`), or a number from
            0, or from -1 backwards. `None`: `upos` of CoNLL-U, else the last.
        tagged: False reads words alone, as for prediction; tags are then "" and a single column
            is allowed.

    Raises:
        DataError: a wrong number of columns, an unknown column, no word at all, or an encoding
            that is not UTF-8; names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.conll"
        >>> _ = path.write_text("EU NNP B-ORG\\nrejects VBZ O\\n\\nPeter NNP B-PER\\n")
        >>> list(read_tagged([path]))
        [(['EU', 'rejects'], ['B-ORG', 'O']), (['Peter'], ['B-PER'])]
        >>> read_tagged([path], "pos").tags
        [['NNP', 'VBZ'], ['NNP']]
    """
    return joined([_read_file(path, column, tagged) for path in expand_paths(paths)])


def parse_tagged(
    lines: Iterable[str], where: str, column: str | int | None = None, *, tagged: bool = True
) -> TaggedText:
    """`read_tagged` for lines at hand; `where` names them in errors."""
    rows, first, first_number = _rows(lines)
    if first is None:
        raise DataError(f"{where}: no line with a word in it; expected one word and tag a line")
    is_conllu = _is_conllu(first)
    split = _splitter(first)
    width = len(split(first))
    if tagged and width < 2:
        raise DataError(
            f"{where}, line {first_number}: 1 column, expected a word and its tag, between blanks "
            f"or tabs (got {_shown(first)})"
        )
    index = -1
    if tagged:
        names = CONLLU_COLUMNS if is_conllu else NAMED_COLUMNS.get(width, ())
        index = _column(column, names, width, is_conllu, where)
    words: list[list[str]] = []
    tags: list[list[str]] = []
    for sentence in _sentences(rows, split, width, is_conllu, where, first_number):
        words.append([row[1 if is_conllu else 0] for row in sentence])
        tags.append([row[index] if tagged else "" for row in sentence])
    if not words:
        raise DataError(f"{where}: no line with a word in it; expected one word and tag a line")
    return TaggedText(words, tags, where)


def _read_file(path: Path, column: str | int | None, tagged: bool) -> TaggedText:
    return parse_tagged(iterate_lines(path), str(path), column, tagged=tagged)


def _rows(lines: Iterable[str]) -> tuple[Iterator[tuple[int, str]], str | None, int]:
    """Numbered lines from the first on that has content, that line, and its number."""
    numbered = enumerate(lines, start=1)
    skipped = []
    for number, line in numbered:
        if not line.strip():
            continue
        if _is_comment(line):  # a comment, if CoNLL-U follows; else a word
            skipped.append((number, line))
            continue
        if skipped and not _is_conllu(line):
            held = [*skipped, (number, line)]
            return _chain(held, numbered), held[0][1], held[0][0]
        return _chain([(number, line)], numbered), line, number
    if skipped:
        return _chain(skipped, numbered), skipped[0][1], skipped[0][0]
    return iter(()), None, 0


def _chain(
    first: list[tuple[int, str]], rest: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    yield from first
    yield from rest


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _is_conllu(line: str) -> bool:
    columns = line.split("\t")
    is_id = _WORD_ID.match(columns[0]) or _SKIPPED_ID.match(columns[0])
    return len(columns) == len(CONLLU_COLUMNS) and is_id is not None


def _splitter(first: str) -> Callable[[str], list[str]]:
    if "\t" in first:
        return lambda line: line.split("\t")
    return lambda line: [column for column in line.split(" ") if column]


def _column(
    column: str | int | None, names: Sequence[str], width: int, is_conllu: bool, where: str
) -> int:
    """The tag's column as an index from 0."""
    if column is None:
        return CONLLU_COLUMNS.index("upos") if is_conllu else width - 1
    text = str(column).lower()
    if text in names:
        return names.index(text)
    if re.fullmatch(r"-?[0-9]+", text) and -width <= int(text) < width:
        return int(text) % width
    known = f"{', '.join(names)}, or " if names else ""
    raise DataError(
        f"{where}: no column {column!r} among its {width}; use {known}a number from 0 to "
        f"{width - 1}"
    )


def _sentences(
    rows: Iterator[tuple[int, str]],
    split: Callable[[str], list[str]],
    width: int,
    is_conllu: bool,
    where: str,
    first_number: int,
) -> Iterator[Rows]:
    sentence: Rows = []
    for number, line in rows:
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
            continue
        if is_conllu and _is_comment(line):
            continue
        columns = split(line)
        if len(columns) != width:
            raise DataError(
                f"{where}, line {number}: {len(columns)} columns, expected {width} as in line "
                f"{first_number} (got {_shown(line)}); mend the line"
            )
        if is_conllu and _is_skipped(columns[0], where, number):
            continue
        if not is_conllu and columns[0] == _DOCUMENT:
            continue
        if not columns[1 if is_conllu else 0].strip():
            raise DataError(
                f"{where}, line {number}: the word is empty (got {_shown(line)}); expected a word "
                "before its tag"
            )
        sentence.append(columns)
    if sentence:
        yield sentence


def _is_skipped(word_id: str, where: str, number: int) -> bool:
    """Whether a CoNLL-U line is a multiword token (3-4) or an empty node (8.1)."""
    if _WORD_ID.match(word_id):
        return False
    if _SKIPPED_ID.match(word_id):
        return True
    raise DataError(
        f"{where}, line {number}: id {word_id!r} is none of CoNLL-U; expected 3, 3-4 or 8.1"
    )


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
