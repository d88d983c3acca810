"""The embedded default text: prose, deterministic, and nothing of test seen in training."""

import re
import subprocess
import sys

import pytest

from recurra.data import TextSplits, Tokenizer, python_documentation
from recurra.data.python_documentation import prose

PARTS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def splits() -> TextSplits:
    return python_documentation.load()


def _sequences(line: str, length: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", line.lower())
    return {tuple(words[k : k + length]) for k in range(len(words) - length + 1)}


def test_the_parts_have_the_sizes_promised(splits: TextSplits) -> None:
    words = {part: sum(len(p.split()) for p in getattr(splits, part)) for part in PARTS}
    assert words["train"] > 150_000
    assert 0.02 < words["valid"] / words["train"] < 0.08
    assert 0.02 < words["test"] / words["train"] < 0.08


def test_no_eight_words_in_a_row_are_shared_with_train(splits: TextSplits) -> None:
    known = set().union(*map(_sequences, splits.train))
    for part in ("valid", "test"):
        kept, everything = getattr(splits, part), splits.overlapping[part]
        dropped = [p for p in everything if p not in set(kept)]
        assert not any(_sequences(p) & known for p in kept)
        assert all(_sequences(p) & known for p in dropped)
        key = f"{part}_paragraphs_left_out_for_8_words_shared_with_train"
        assert splits.notes[key] == len(dropped) > 0


def test_every_paragraph_is_there_once(splits: TextSplits) -> None:
    everything = splits.train + splits.overlapping["valid"] + splits.overlapping["test"]
    words = [" ".join(re.findall(r"\w+", p.lower())) for p in everything]
    assert len(set(words)) == len(words)


def test_no_code_or_markup_is_left(splits: TextSplits) -> None:
    for paragraph in splits.train + splits.valid + splits.test:
        assert "\n" not in paragraph
        assert not re.search(r">>>|::=|:(class|func|meth|mod):`|``\w+``|^\.\. ", paragraph)


def test_another_process_reads_the_same_text(splits: TextSplits) -> None:
    """Hash seeds differ between processes, and this one has a test runner inside `sys`."""
    code = (
        "from recurra.data.python_documentation import load; from zlib import crc32; s = load(); "
        "print(crc32('\\n'.join(s.train + ['---'] + s.valid + ['---'] + s.test).encode()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    from zlib import crc32

    own = "\n".join([*splits.train, "---", *splits.valid, "---", *splits.test])
    assert int(result.stdout) == crc32(own.encode()), result.stderr


def test_the_default_vocabulary_knows_nearly_all_of_valid(splits: TextSplits) -> None:
    tokenizer = Tokenizer.train(
        splits.train, minimum_count=3, lowercase=True, split_punctuation=True
    )
    assert 3_000 < len(tokenizer.vocabulary) < 8_000
    encoded = tokenizer.encode_lines(splits.valid)
    assert (encoded == tokenizer.unknown_id).mean() < 0.07


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Use it as follows:\n\n   x = load(path)\n   x.close()\n\nThen stop.",
            ["Use it as follows:"],
        ),
        ("A longer one here.\n\n>>> 1 + 1\n2\n", ["A longer one here."]),
        ("Heading of it\n=============\n\nOne sentence is here.", ["One sentence is here."]),
        (
            "* first of the items.\n* second of the items.",
            ["first of the items.", "second of the items."],
        ),
        ("See :func:`~os.walk` or *this* one.", ["See os.walk or this one."]),
        ("S.find(sub) -> int\n\nReturn the lowest index.", ["Return the lowest index."]),
        ("f(x, y) -- Add both of them.", ["Add both of them."]),
        ("Note:\n\n  All of it must be closed.", ["All of it must be closed."]),
        ("| a | b | c | d | e |\n+---+---+---+", []),
        ("", []),
    ],
)
def test_prose_is_told_from_the_rest(text: str, expected: list[str]) -> None:
    assert list(prose(text)) == expected
