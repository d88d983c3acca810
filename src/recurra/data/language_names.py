"""The embedded default data to classify: which language is this name in? From CLDR, through Babel.

Names of territories, languages, scripts, currencies, units, time zones' cities, months and days in
twenty languages, all in Latin script, so that letters and endings decide and not the script. Four
groups of them are near relatives: Danish, Norwegian and Swedish; Czech, Slovak and Polish; Spanish,
Catalan, Galician and Portuguese; Estonian and Finnish.

What would make the task easier than it is, or senseless, is taken out: a name that is spelt alike
in several of the languages ("Peru") has no one answer and is left out; equal names of a language
are kept once. A thing (the territory FR, the currency EUR) stands with all its names on one side of
the split: no translation of a name of test was learned from.

CLDR's data are under the Unicode licence; Babel, a dependency, brings them. Figures compare within
one version of Babel.
"""

import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from recurra.data.examples import HELD_OUT, Examples, ExampleSplits

LANGUAGES = {
    **{"ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "en": "English"},
    **{"es": "Spanish", "et": "Estonian", "fi": "Finnish", "fr": "French", "gl": "Galician"},
    **{"hu": "Hungarian", "it": "Italian", "lt": "Lithuanian", "nb": "Norwegian", "nl": "Dutch"},
    **{"pl": "Polish", "pt": "Portuguese", "sk": "Slovak", "sv": "Swedish", "tr": "Turkish"},
}


def load() -> ExampleSplits:
    """The default classification data: texts are names, labels the English names of languages.

    Returns:
        Splits by thing, about 80 : 10 : 10, the same on every machine with the same Babel. `notes`
        says how many names were left out.

    Example:
        >>> splits = load()
        >>> len(splits.train.classes()), set(splits.train.inputs) & set(splits.test.inputs)
        (20, set())
    """
    import babel

    named: dict[str, dict[str, str]] = {code: _names(code) for code in LANGUAGES}
    languages_of: dict[str, set[str]] = defaultdict(set)
    for code, names in named.items():
        for name in names:
            languages_of[name.casefold()].add(code)
    parts: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    left_out = 0
    for code, names in named.items():
        for name, thing in names.items():
            if len(languages_of[name.casefold()]) > 1:
                left_out += 1
                continue
            parts[_split_of(thing)].append((name, LANGUAGES[code], thing))
    notes: dict[str, int | float | str] = {
        "text": "names of things in twenty languages, from CLDR",
        "babel": babel.__version__,
        "names_left_out_for_being_spelt_alike_in_several_languages": left_out,
    }
    train, valid, test = (_examples(parts[name]) for name in ("train", "valid", "test"))
    return ExampleSplits(train, valid, test, notes)


def _examples(rows: list[tuple[str, str, str]]) -> Examples:
    return Examples(
        [name for name, _, _ in rows],
        [(language,) for _, language, _ in rows],
        groups=[thing for _, _, thing in rows],
    )


def _names(code: str) -> dict[str, str]:
    """The names of a language, each once, with the thing that first bears it."""
    names: dict[str, str] = {}
    for thing, name in _things(code):
        cleaned = " ".join(unicodedata.normalize("NFC", name).split())
        if sum(letter.isalpha() for letter in cleaned) >= 3 and "{" not in cleaned:
            names.setdefault(cleaned, thing)
    return names


def _things(code: str) -> Iterator[tuple[str, str]]:
    """(kind and code of a thing, its name in the language)."""
    from babel import Locale

    locale = Locale.parse(code)
    plain: dict[str, Mapping[str, str]] = {
        "territory": locale.territories,
        "language": locale.languages,
        "script": locale.scripts,
        "currency": locale.currencies,
    }
    for kind, table in plain.items():
        for key in sorted(table):
            if not key.isdigit():  # regions of the UN: "Western Africa"
                yield f"{kind} {key}", table[key]
    for kind, names in (("month", locale.months), ("day", locale.days)):
        for key in sorted(names["stand-alone"]["wide"]):
            yield f"{kind} {key}", names["stand-alone"]["wide"][key]
    yield from _nested("unit", locale.unit_display_names, ("long",))
    yield from _nested("zone", locale.time_zones, ("city",))


def _nested(
    kind: str, table: Mapping[str, Any], forms: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    for key in sorted(table):
        for form in forms:
            name = table[key].get(form)
            if isinstance(name, str):
                yield f"{kind} {key}", name


def _split_of(thing: str) -> str:
    share = zlib.crc32(thing.encode()) / 2**32
    return "test" if share < HELD_OUT else "valid" if share < 2 * HELD_OUT else "train"
