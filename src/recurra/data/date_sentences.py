"""The embedded default data to translate: dates as people write them in ten languages → ISO 8601.

A day is drawn, a language and a form of it; Babel writes the day by CLDR's formats: "Mittwoch, 4.
März 2015", "4 mar 2015", "March 4, 2015" become "2015-03-04". Only forms with the name of the month
are used, and the day-first `dd.MM.yyyy`, so that no text stands for two days. Small and capital
letters vary as people's do. Each day occurs once in all: a day of valid or test was never seen in
training, in whatever language.

CLDR's data are under the Unicode licence; Babel, a dependency, brings them. Figures compare within
one version of Babel.
"""

import random
import unicodedata
from datetime import date, timedelta

from recurra.data.parallel import ParallelSplits, ParallelText
from recurra.errors import DataError

LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "sv", "tr")
FORMATS = ("medium", "long", "full")
SKELETONS = ("yMMMd", "yMMMEd")
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
DAYS = (LAST - FIRST).days + 1


def load(train: int = 12_000, held_out: int = 1_000, seed: int = 1) -> ParallelSplits:
    """The default data; the same on every machine with the same Babel.

    Args:
        train: pairs to train on.
        held_out: pairs of valid, and of test.
        seed: of days, languages and forms.

    Raises:
        DataError: more pairs than there are days from 1900 to 2099.

    Example:
        >>> splits = load(train=50, held_out=20)
        >>> len(splits.train), len(splits.test), splits.test.target[0].count("-")
        (50, 20, 2)
        >>> set(splits.train.target) & set(splits.test.target)
        set()
    """
    import babel

    if train + 2 * held_out > DAYS:
        raise DataError(f"{train} + 2 · {held_out} dates; from {FIRST} to {LAST} are {DAYS} days")
    source = random.Random(seed)
    days = [FIRST + timedelta(n) for n in source.sample(range(DAYS), train + 2 * held_out)]
    pairs = [(write(day, source), day.isoformat()) for day in days]
    parts = []
    for name, start, end in (
        ("train", 0, train),
        ("valid", train, train + held_out),
        ("test", train + held_out, train + 2 * held_out),
    ):
        lines, dates = zip(*pairs[start:end], strict=True)
        parts.append(ParallelText(list(lines), list(dates), f"dates ({name})"))
    notes: dict[str, int | float | str] = {
        "text": "dates in ten languages → ISO 8601, from CLDR",
        "languages": ", ".join(LANGUAGES),
        "babel": babel.__version__,
    }
    return ParallelSplits(parts[0], parts[1], parts[2], notes)


def write(day: date, source: random.Random) -> str:
    """A day in a language and a form by chance.

    Example:
        >>> write(date(2015, 3, 4), random.Random(3))
        'mer. 4 mars 2015'
    """
    from babel.dates import format_date, format_skeleton

    language, form = source.choice(LANGUAGES), source.choice(FORMATS + SKELETONS)
    if form in FORMATS:
        text = format_date(day, form, locale=language)
    else:
        text = format_skeleton(form, day, locale=language)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    case = source.random()
    return text.lower() if case < 0.15 else text.upper() if case < 0.2 else text
