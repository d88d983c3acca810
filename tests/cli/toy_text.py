"""A small language with rules: enough for every kind of model, learned in a blink."""

import random
from pathlib import Path

NOUNS = ("cat", "dog", "bird", "fish", "horse", "child", "teacher", "farmer")
VERBS = ("sees", "hears", "likes", "follows", "feeds", "calls")
PLACES = ("house", "river", "garden", "school", "market")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences such as "the small cat sees the dog near the river ."."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        subject, object_ = rng.choice(NOUNS), rng.choice(NOUNS)
        words = ["the", *rng.choice(([], ["small"], ["old"])), subject, rng.choice(VERBS)]
        words += ["the", object_]
        if rng.random() < 0.4:
            words += [rng.choice(("near", "behind")), "the", rng.choice(PLACES)]
        lines.append(" ".join([*words, "."]))
    return lines


def write_text(path: Path, count: int = 600, seed: int = 0) -> Path:
    """A file of sentences."""
    path.write_text("\n".join(sentences(count, seed)) + "\n", encoding="utf-8")
    return path
