"""Entities in tags: IOB1, BIO (IOB2), BIOES and BILOU, read as conlleval reads them.

    IOB1    I-X inside an entity; B-X only where an entity follows another of its type directly
    BIO     B-X at each entity's first word, I-X at the others                (also: IOB2)
    BIOES   BIO, with E-X at the last word and S-X for an entity of one word  (BILOU: L-X and U-X)

Source: Tjong Kim Sang & Veenstra 1999 for the schemes; for which odd sequences still hold an
entity (I- without B-, a change of type inside one), the script conlleval of Tjong Kim Sang &
Buchholz 2000, whose rules `entities` follows.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recurra.errors import ArgumentError

SCHEMES = ("iob1", "bio", "bioes", "bilou")
OUTSIDE = "O"
_PREFIXES = {"iob1": "BI", "bio": "BI", "bioes": "BIES", "bilou": "BILU"}
_AS_BIOES = str.maketrans("LU", "ES")


class Entity(NamedTuple):
    """Words `start` to `end`, `end` excluded, of one type."""

    type: str
    start: int
    end: int


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag, L and U read as E and S.

    Example:
        >>> split_tag("B-PER"), split_tag("U-LOC"), split_tag("O"), split_tag("I")
        (('B', 'PER'), ('S', 'LOC'), ('O', ''), ('I', ''))
    """
    prefix, _, kind = tag.partition("-")
    return prefix.translate(_AS_BIOES), kind


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, as conlleval finds them whatever the scheme.

    Example:
        >>> entities(["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG"])
        ... # doctest: +NORMALIZE_WHITESPACE
        [Entity(type='PER', start=0, end=2), Entity(type='PER', start=2, end=3),
         Entity(type='LOC', start=4, end=5), Entity(type='ORG', start=5, end=6)]
    """
    found = []
    previous, previous_type, start = OUTSIDE, "", 0
    for position, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = split_tag(tag)
        if previous != OUTSIDE and _ends(previous, previous_type, prefix, kind):
            found.append(Entity(previous_type, start, position))
        if prefix != OUTSIDE and _starts(previous, previous_type, prefix, kind):
            start = position
        previous, previous_type = prefix, kind
    return found


def _ends(previous: str, previous_type: str, prefix: str, kind: str) -> bool:
    """Whether an entity that reaches the previous word ends there."""
    if previous in "ES":
        return True
    return prefix in ("B", "S", OUTSIDE) or kind != previous_type


def _starts(previous: str, previous_type: str, prefix: str, kind: str) -> bool:
    """Whether an entity that holds this word starts here."""
    return prefix in "BS" or previous in ("E", "S", OUTSIDE) or kind != previous_type


def recognise(sentences: Iterable[Sequence[str]]) -> str | None:
    """The scheme that tags are written in, or `None` if they hold no entities.

    All tags must be O or have a prefix of a scheme. Then E or S tell BIOES, L or U BILOU; an
    entity that begins with I tells IOB1, unless one begins with B where IOB1 would write I: that
    is BIO with mistakes, which `convert` mends.

    Example:
        >>> recognise([["B-PER", "I-PER", "O"]]), recognise([["I-PER", "B-PER", "O"]])
        ('bio', 'iob1')
        >>> recognise([["NOUN", "VERB"]]) is None
        True
    """
    sentences = list(sentences)
    kinds = {tag for tags in sentences for tag in tags}
    prefixes = {tag[0] for tag in kinds if tag != OUTSIDE and tag[1:2] == "-" and tag[2:]}
    has_others = any(tag != OUTSIDE and not (tag[1:2] == "-" and tag[2:]) for tag in kinds)
    if has_others or not prefixes or not any(prefixes <= set(p) for p in _PREFIXES.values()):
        return None
    if prefixes & set("LU"):
        return "bilou"
    if prefixes & set("ES"):
        return "bioes"
    return _bio_or_iob1(sentences)


def _bio_or_iob1(sentences: Iterable[Sequence[str]]) -> str:
    begins_with_i = False
    for tags in sentences:
        found = entities(tags)
        for k, entity in enumerate(found):
            before = found[k - 1] if k else None
            follows = before is not None and before[::2] == (entity.type, entity.start)
            if tags[entity.start][0] == "B" and not follows:
                return "bio"
            begins_with_i |= tags[entity.start][0] == "I"
    return "iob1" if begins_with_i else "bio"


def convert(tags: Sequence[str], scheme: str) -> list[str]:
    """One sentence's tags in another scheme; the entities that conlleval finds stay the same.

    Converting to the tags' own scheme mends them: an I-X that begins an entity becomes B-X.

    Args:
        tags: in any scheme.
        scheme: "iob1", "bio", "bioes" or "bilou".

    Raises:
        ArgumentError: no such scheme.

    Example:
        >>> convert(["I-PER", "I-PER", "B-PER", "O"], "bioes")
        ['B-PER', 'E-PER', 'S-PER', 'O']
        >>> convert(["B-PER", "E-PER", "S-PER", "O"], "iob1")
        ['I-PER', 'I-PER', 'B-PER', 'O']
    """
    if scheme not in SCHEMES:
        raise ArgumentError(f"scheme {scheme!r} is unknown; use one of {', '.join(SCHEMES)}")
    converted = [OUTSIDE] * len(tags)
    before = Entity("", 0, 0)
    for entity in entities(tags):
        follows = before[::2] == (entity.type, entity.start) and entity.start > 0
        prefixes = _prefixes(entity.end - entity.start, scheme, follows)
        converted[entity.start : entity.end] = [f"{p}-{entity.type}" for p in prefixes]
        before = entity
    return converted


def _prefixes(length: int, scheme: str, follows: bool) -> str:
    if scheme == "iob1":
        return ("B" if follows else "I") + "I" * (length - 1)
    if scheme == "bio":
        return "B" + "I" * (length - 1)
    last, single = ("E", "S") if scheme == "bioes" else ("L", "U")
    return single if length == 1 else "B" + "I" * (length - 2) + last


def all_tags(types: Iterable[str], scheme: str) -> list[str]:
    """O and every tag of the types, in an order that depends on the types alone.

    Example:
        >>> all_tags(["PER"], "bioes")
        ['O', 'B-PER', 'I-PER', 'E-PER', 'S-PER']
    """
    return [OUTSIDE, *(f"{p}-{kind}" for kind in sorted(set(types)) for p in _PREFIXES[scheme])]


def allowed_transitions(tags: Sequence[str], scheme: str | None) -> list[list[bool]]:
    """Which tag may follow which; before the first and after the last word stands a boundary.

    Args:
        tags: all tags, in one of "bio", "bioes", "bilou".
        scheme: of the tags; `None` and "iob1" allow everything.

    Returns:
        (tags + 1) rows of (tags + 1): row i, column j tells whether j may follow i; the last row
        and column are the boundary.

    Example:
        >>> allowed_transitions(["O", "B-X", "I-X"], "bio")[0]  # after O
        [True, True, False, True]
        >>> allowed_transitions(["O", "B-X", "I-X"], "bio")[-1]  # at the start
        [True, True, False, False]
    """
    ends = [split_tag(tag) for tag in tags] + [(OUTSIDE, "")]
    if scheme is None or scheme == "iob1":
        table = [[True] * len(ends) for _ in ends]
    else:
        table = [[_may_follow(before, after, scheme) for after in ends] for before in ends]
    table[-1][-1] = False  # an empty sentence has no transition
    return table


def _may_follow(before: tuple[str, str], after: tuple[str, str], scheme: str) -> bool:
    (prefix, kind), (next_prefix, next_kind) = before, after
    continues = next_prefix in ("I", "E")
    if scheme == "bio":
        return not continues or (prefix in "BI" and kind == next_kind)
    if prefix in ("B", "I"):
        return continues and kind == next_kind
    return not continues
