"""The baseline of every tagger: each word's most frequent tag."""

from collections import Counter
from collections.abc import Sequence

from recurra.data.tagged_text import TaggedText


class MostFrequentTag:
    """Tags a word as it was tagged most often in training, without a look at its neighbours.

    A word that was not there gets the most frequent tag of the words that were there once. Ties
    are broken by the order in which tags came up.

    Args:
        text: to learn from, one word at least.

    Example:
        >>> text = TaggedText([["the", "can"], ["can"], ["can"]], [["D", "N"], ["V"], ["V"]])
        >>> MostFrequentTag(text).predict([["the", "can", "opener"]])
        [['D', 'V', 'D']]
    """

    def __init__(self, text: TaggedText) -> None:
        counts: dict[str, Counter[str]] = {}
        for words, tags in text:
            for word, tag in zip(words, tags, strict=True):
                counts.setdefault(word, Counter())[tag] += 1
        self.tags = {word: found.most_common(1)[0][0] for word, found in counts.items()}
        once = Counter(self.tags[word] for word, found in counts.items() if found.total() == 1)
        self.of_unknown = (once or Counter(self.tags.values())).most_common(1)[0][0]

    def predict(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """One list of tags a sentence."""
        return [[self.tags.get(word, self.of_unknown) for word in words] for words in sentences]

    def parameters(self) -> int:
        """Words whose tag is kept."""
        return len(self.tags)
