"""Schemes of entities: recognised, converted, and legal transitions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.spans import (
    SCHEMES,
    Entity,
    all_tags,
    allowed_transitions,
    convert,
    entities,
    recognise,
)
from recurra.errors import ArgumentError

TAGS = st.lists(st.sampled_from(all_tags(["PER", "LOC"], "bioes")), max_size=12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X I-X O", [Entity("X", 0, 2)]),
        ("I-X I-X O", [Entity("X", 0, 2)]),  # without B-
        ("O I-X I-Y", [Entity("X", 1, 2), Entity("Y", 2, 3)]),  # the type changes inside
        ("B-X B-X I-Y", [Entity("X", 0, 1), Entity("X", 1, 2), Entity("Y", 2, 3)]),
        ("B-X E-X E-X S-X", [Entity("X", 0, 2), Entity("X", 2, 3), Entity("X", 3, 4)]),
        ("S-X I-X", [Entity("X", 0, 1), Entity("X", 1, 2)]),
        ("U-X B-X L-X", [Entity("X", 0, 1), Entity("X", 1, 3)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities_are_conllevals(tags: str, expected: list[Entity]) -> None:
    assert entities(tags.split()) == expected


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["B-X I-X O", "O B-Y"], "bio"),
        (["I-X I-X O", "I-Y B-Y"], "iob1"),
        (["I-X I-X O", "O B-Y"], "bio"),  # with a mistake
        (["B-X E-X O"], "bioes"),
        (["O S-X"], "bioes"),
        (["O U-X"], "bilou"),
        (["B-X", "B-Y B-Y"], "bio"),
        (["O O"], None),
        (["NOUN VERB"], None),
        (["O B-X", "NOUN"], None),
        (["I-"], None),
    ],
)
def test_schemes_are_recognised(sentences: list[str], scheme: str | None) -> None:
    assert recognise([tags.split() for tags in sentences]) == scheme


@given(TAGS, st.sampled_from(SCHEMES))
def test_conversion_keeps_entities_and_mends(tags: list[str], scheme: str) -> None:
    converted = convert(tags, scheme)
    assert entities(converted) == entities(tags)
    assert convert(converted, scheme) == converted
    if scheme in ("bio", "bioes"):
        names = all_tags(["PER", "LOC"], scheme)
        table = allowed_transitions(names, scheme)
        path = [-1, *(names.index(tag) for tag in converted), -1]
        assert not tags or all(table[a][b] for a, b in pairwise(path))


def test_adjacent_entities_of_iob1_are_kept_apart() -> None:
    assert convert(["B-X", "B-X", "I-X", "B-Y"], "iob1") == ["I-X", "B-X", "I-X", "I-Y"]


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="use one of iob1, bio, bioes, bilou"):
        convert(["O"], "iob3")


def test_illegal_transitions() -> None:
    names = all_tags(["X", "Y"], "bioes")
    table = allowed_transitions(names, "bioes")
    legal = {(a, b) for i, a in enumerate(names) for j, b in enumerate(names) if table[i][j]}
    assert ("B-X", "I-X") in legal
    assert ("I-X", "E-X") in legal
    assert ("E-X", "B-X") in legal
    assert legal.isdisjoint({("B-X", "I-Y"), ("B-X", "O"), ("O", "E-X"), ("S-X", "I-X")})
    starts = {name for name, ok in zip(names, table[-1], strict=False) if ok}
    ends = {name for name, row in zip(names, table, strict=False) if row[-1]}
    assert starts == {"O", "B-X", "S-X", "B-Y", "S-Y"}
    assert ends == {"O", "E-X", "S-X", "E-Y", "S-Y"}
