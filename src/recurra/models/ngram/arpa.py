"""ARPA files, the field's text format for back-off models, plain or `.gz`.

Probabilities and weights are base-10 logarithms; `<s>` begins a sentence, `</s>` ends it, `<unk>`
is the unknown word. Files written here are read by KenLM and SRILM, and theirs here.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from recurra.errors import ArgumentError, DataError
from recurra.models.ngram.counting import Counts
from recurra.models.ngram.model import NGramModel
from recurra.models.ngram.smoothing import Estimates

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_IMPOSSIBLE = -99.0
_PER_WRITE = 100_000


def write(model: NGramModel, path: str | Path) -> None:
    """Write a model as an ARPA file, beside its name first and renamed when complete.

    Raises:
        ArgumentError: the smoothing has no probabilities at the lower orders (add_k,
            maximum_likelihood), which an ARPA file cannot say; or a word holds white space.
    """
    if bool(np.isnan(model.log_probabilities_).any()):
        raise ArgumentError(
            f"smoothing {model.smoothing!r} has no probabilities at the lower orders, so it has no "
            "ARPA form; use another smoothing or the binary format"
        )
    names = [*model.vocabulary, BEGIN]
    names[model.eos_id], names[model.unknown_id] = END, UNKNOWN
    spaced = [name for name in names if not name or name.split() != [name]]
    if spaced:
        raise ArgumentError(f"word {spaced[0]!r} holds white space, which an ARPA file cannot say")
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(partial, "wt", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {k}={size}\n" for k, size in enumerate(model.sizes, start=1))
        _write_orders(model, names, file)
        file.write("\n\\end\\\n")
    partial.replace(path)


def _write_orders(model: NGramModel, names: list[str], file: IO[str]) -> None:
    scale = 1 / math.log(10)
    log_p = np.where(np.isneginf(model.log_probabilities_), -99.0, model.log_probabilities_ * scale)
    weights = np.where(np.isneginf(model.log_weights), -99.0, model.log_weights * scale)
    starts = np.cumsum([0, *model.sizes])
    prefixes: list[str] = []
    for level, size in enumerate(model.sizes):
        nodes = slice(starts[level], starts[level + 1])
        words = [names[w] for w in model.words[nodes]]
        if level:
            above = slice(starts[level - 1], starts[level] + 1)
            parents = np.repeat(np.arange(len(prefixes)), np.diff(model.first_children[above]))
            words = [f"{prefixes[p]} {w}" for p, w in zip(parents.tolist(), words, strict=True)]
        file.write(f"\n\\{level + 1}-grams:\n")
        has_weight = level + 1 < model.order
        for start in range(0, size, _PER_WRITE):
            span = slice(start, start + _PER_WRITE)
            rows = zip(log_p[nodes][span], words[span], weights[nodes][span], strict=True)
            if has_weight:
                file.writelines(f"{p:.7g}\t{gram}\t{w:.7g}\n" for p, gram, w in rows)
            else:
                file.writelines(f"{p:.7g}\t{gram}\n" for p, gram, _ in rows)
        prefixes = words


def read(path: str | Path) -> NGramModel:
    """Read an ARPA file.

    The vocabulary gets `<unk>` and the end of a sentence first, then the file's words in order. A
    file without `<unk>` gives it probability 0.

    Raises:
        DataError: not an ARPA file, or damaged; names file and line.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return _parse(path, enumerate(file, start=1))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _parse(path: Path, lines: Iterator[tuple[int, str]]) -> NGramModel:
    announced = _header(path, lines)
    vocabulary = ["<unk>", "<eos>"]
    ids = {UNKNOWN: 0, END: 1}
    levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for order, size in enumerate(announced, start=1):
        levels.append(_section(path, lines, order, size, vocabulary, ids, order == len(announced)))
    return _assemble(path, vocabulary, levels)


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    """Sizes of the orders; leaves the lines at the first section's first n-gram."""
    sizes: list[int] = []
    is_inside = False
    for number, line in lines:
        text = line.strip()
        if text == "\\data\\":
            is_inside = True
        elif is_inside and text.startswith("ngram "):
            order, _, size = text.removeprefix("ngram ").partition("=")
            if not (order.strip().isdigit() and size.strip().isdigit()):
                raise DataError(f"{path}, line {number}: expected 'ngram ORDER=SIZE', got {text!r}")
            sizes.append(int(size))
        elif is_inside and text == "\\1-grams:":
            return sizes
        elif is_inside and text:
            raise DataError(f"{path}, line {number}: expected '\\1-grams:', got {text!r}")
    raise DataError(f"{path}: is no ARPA file: '\\data\\' and '\\1-grams:' were not found")


def _section(
    path: Path,
    lines: Iterator[tuple[int, str]],
    order: int,
    size: int,
    vocabulary: list[str],
    ids: dict[str, int],
    is_last: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(size, order) ids, log10 p and log10 weights of one order; -1 is the begin of a sentence."""
    ids.setdefault(BEGIN, -1)
    grams = np.empty((size, order), np.int64)
    log_p, weights = np.empty(size), np.zeros(size)
    row = 0
    for number, line in lines:
        fields = line.split()
        if not fields:
            continue
        if fields[0].startswith("\\"):
            expected = "\\end\\" if is_last else f"\\{order + 1}-grams:"
            if fields[0] != expected or row != size:
                raise DataError(
                    f"{path}, line {number}: {fields[0]} after {row} of {size} {order}-grams; "
                    f"expected {expected} after all"
                )
            return grams, log_p, weights
        if len(fields) not in (order + 1, order + 2) or row == size:
            raise DataError(
                f"{path}, line {number}: expected a probability, {order} words and perhaps a "
                f"weight ({size} times), got {line.rstrip()!r}"
            )
        try:
            log_p[row] = float(fields[0])
            weights[row] = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        for k, word in enumerate(fields[1 : order + 1]):
            if word not in ids:
                if order > 1:
                    raise DataError(f"{path}, line {number}: {word!r} is not among the 1-grams")
                ids[word] = len(vocabulary)
                vocabulary.append(word)
            grams[row, k] = ids[word]
        row += 1
    raise DataError(f"{path}: ends inside the {order}-grams; '\\end\\' is missing")


def _assemble(
    path: Path, vocabulary: list[str], levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> NGramModel:
    """A model from the sections; each order is sorted by (prefix, word)."""
    begin = len(vocabulary)
    words: list[np.ndarray] = []
    prefixes: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    keys = np.arange(begin + 1)
    for order, (grams, log_p, weight) in enumerate(levels, start=1):
        grams = np.where(grams < 0, begin, grams)
        if order == 1:
            all_p, all_w = np.full(begin + 1, _IMPOSSIBLE), np.zeros(begin + 1)
            all_p[grams[:, 0]], all_w[grams[:, 0]] = log_p, weight
            prefix, word, log_p, weight = np.zeros(begin + 1, int), keys, all_p, all_w
        else:
            parent = _indices(path, grams[:, :-1], begin, words, prefixes)
            sorting = np.lexsort((grams[:, -1], parent))
            prefix, word = parent[sorting], grams[sorting, -1]
            log_p, weight = log_p[sorting], weight[sorting]
        words.append(word.astype(np.int32))
        prefixes.append(prefix.astype(np.int64))
        probabilities.append(np.where(log_p <= _IMPOSSIBLE, 0.0, 10.0**log_p))
        weights.append(np.where(weight <= _IMPOSSIBLE, 0.0, 10.0**weight))
    nothing: list[np.ndarray] = []
    counts = Counts(words, prefixes, nothing, nothing, nothing)
    return NGramModel._build(
        vocabulary, "arpa", 1, 0, counts, Estimates(probabilities, weights[:-1])
    )


def _indices(
    path: Path,
    grams: np.ndarray,
    begin: int,
    words: list[np.ndarray],
    prefixes: list[np.ndarray],
) -> np.ndarray:
    """Index, at its order, of each n-gram."""
    found = grams[:, 0]
    for level in range(1, grams.shape[1]):
        keys = prefixes[level] * (begin + 1) + words[level]
        wanted = found * (begin + 1) + grams[:, level]
        found = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        if len(keys) == 0 or not np.array_equal(keys[found], wanted):
            raise DataError(
                f"{path}: a {grams.shape[1] + 1}-gram continues a {grams.shape[1]}-gram that the "
                "file does not have"
            )
    return found
