"""Parallel text: files, tables, their faults; the embedded dates; sides that are exchanged."""

import gzip
import random
from datetime import date

import pytest

from recurra.data import date_sentences
from recurra.data.direction import Direction
from recurra.data.parallel import ParallelText, read_parallel, split_parallel
from recurra.errors import DataError


def test_two_files_are_read_line_by_line_and_empty_lines_stay(tmp_path) -> None:
    source, target = tmp_path / "a.de", tmp_path / "a.en.gz"
    source.write_bytes("eins\r\n\nein\u0085Satz\n".encode())
    target.write_bytes(gzip.compress(b"one\n\na sentence\n"))
    text = read_parallel([source, target])
    assert text.pairs() == [("eins", "one"), ("", ""), ("ein\u0085Satz", "a sentence")]


def test_different_numbers_of_lines_are_refused_with_both(tmp_path) -> None:
    source, target = tmp_path / "a.de", tmp_path / "a.en"
    source.write_text("eins\nzwei\n")
    target.write_text("one\ntwo\nthree\n")
    with pytest.raises(DataError, match=r"a\.de has 2 lines and .*a\.en has 3"):
        read_parallel([source, target])
    with pytest.raises(DataError, match="1 text file; expected two"):
        read_parallel([source])
    with pytest.raises(DataError, match="2 source lines and 1 target lines"):
        ParallelText(["a", "b"], ["c"])


def test_tables_with_and_without_header(tmp_path) -> None:
    plain, headed, objects = (tmp_path / name for name in ("a.tsv", "b.tsv", "c.jsonl"))
    plain.write_text('"ein\tone\n\t\n')
    headed.write_text("id\ttarget\tsource\n1\tone\tein\n")
    objects.write_text('{"source": "zwei", "target": "two", "id": 3}\n\n')
    assert read_parallel([plain]).pairs() == [('"ein', "one"), ("", "")]
    both = read_parallel([headed, objects])
    assert both.pairs() == [("ein", "one"), ("zwei", "two")]
    renamed = read_parallel([headed], source="target", target="source")
    assert renamed.pairs() == [("one", "ein")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "ein\tone\nzwei\n", r"a\.tsv, line 2: 1 columns, expected 2"),
        ("a.tsv", "a\tb\tc\n", r"line 1: 3 columns and none is called 'source'"),
        ("a.tsv", "source\ttarget\n", "a header and no row"),
        ("a.jsonl", '{"source": "a", "target": "b"}\n{"source": "a"}\n', r"line 2: .* 'target'"),
        ("a.jsonl", "[1]\n", r"line 1: expected a text at 'source'"),
        ("a.jsonl", "{\n", r"line 1: no JSON"),
    ],
)
def test_broken_tables_are_named_with_their_line(tmp_path, name, content, message) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_parallel([path])


def test_the_end_of_a_text_is_held_out() -> None:
    lines = [str(i) for i in range(40)]
    train, valid, test = split_parallel(ParallelText(lines, lines[::-1]))
    assert (len(train), valid.source, test.source) == (36, ["38", "39"], ["36", "37"])
    assert valid.target == ["1", "0"]
    train, valid, _ = split_parallel(ParallelText(lines, lines), valid=False)
    assert (len(train), len(valid)) == (38, 0)


def test_dates_are_the_same_each_time_and_none_of_test_is_in_training() -> None:
    splits, again = date_sentences.load(400, 100), date_sentences.load(400, 100)
    assert splits.fingerprint() == again.fingerprint()
    assert splits.fingerprint() != date_sentences.load(400, 100, seed=2).fingerprint()
    every = [*splits.train.target, *splits.valid.target, *splits.test.target]
    assert len(set(every)) == len(every) == 600
    assert all(date.fromisoformat(target) for target in every)
    with pytest.raises(DataError, match="73049 days"):
        date_sentences.load(73_000, 100)


def test_no_date_text_stands_for_two_days() -> None:
    source, days = random.Random(4), {}
    every = [
        date(year, month, day)
        for year in (1999, 2012)
        for month in range(1, 13)
        for day in (1, 4, 12)
    ]
    for day in every * 40:
        text = date_sentences.write(day, source).lower()
        assert days.setdefault(text, day) == day, text


def test_exchanged_sides_are_noticed_and_short_texts_are_not_judged() -> None:
    splits = date_sentences.load(300, 60)
    direction = Direction.of(splits.train)
    direction.check(splits.test)
    swapped = ParallelText(splits.test.target, splits.test.source, "there")
    with pytest.raises(DataError, match="there: source and target seem to be exchanged"):
        direction.check(swapped)
    direction.check(ParallelText(["2012-05-04"], ["4. Mai 2012"]))
    direction.check(ParallelText([], []))


def test_profiles_survive_a_file(tmp_path) -> None:
    direction = Direction.of(ParallelText(["ein Hund"], ["a dog"]))
    direction.save(tmp_path / "languages.json")
    assert Direction.load(tmp_path / "languages.json") == direction
    (tmp_path / "languages.json").write_text("[]")
    with pytest.raises(DataError, match="holds no profiles"):
        Direction.load(tmp_path / "languages.json")
