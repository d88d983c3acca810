"""The n-gram model: a trie of four flat arrays, and the questions that are asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recurra.errors import ArgumentError
from recurra.models.ngram import search
from recurra.models.ngram.counting import Array, Counts, count
from recurra.models.ngram.smoothing import SMOOTHINGS, Estimates


@dataclass(frozen=True)
class NGramModel:
    """p(next word | last n-1 words), n-grams of any order, any smoothing.

    Nodes are the n-grams of order 1, then of order 2, and so on, each order sorted by (prefix,
    word), so that the n-grams that continue a node lie side by side.

    Attributes:
        vocabulary: words by id.
        order: longest n-gram.
        smoothing: a name of `smoothing.SMOOTHINGS`, or "arpa" for a model that was read.
        eos_id: id that ends each line; it is predicted like a word.
        unknown_id: id of the unknown word, an ordinary word of the vocabulary.
        sizes: n-grams of each order; order 1 has one more than there are words, the begin of a
            sentence.
        words: (nodes,) int32, last word of each node.
        first_children: (nodes + 1,) int64; node i goes on in nodes first_children[i] to
            first_children[i + 1].
        log_probabilities_: (nodes,) float32, log p(last word | the others); NaN: none here.
        log_weights: (nodes,) float32, log of the back-off weight.

    Example:
        >>> import numpy as np
        >>> tokens = np.array([2, 3, 1, 2, 4, 1])  # "a cat", "a dog"
        >>> model = NGramModel.train(
        ...     tokens, ["<unk>", "<eos>", "a", "cat", "dog"], order=2, smoothing="witten_bell"
        ... )
        >>> round(model.perplexity(tokens), 3)
        1.822
    """

    vocabulary: list[str]
    order: int
    smoothing: str
    eos_id: int
    unknown_id: int
    sizes: list[int]
    words: Array
    first_children: Array
    log_probabilities_: Array
    log_weights: Array

    @classmethod
    def train(
        cls,
        tokens: Array,
        vocabulary: Sequence[str],
        order: int = 5,
        smoothing: str = "kneser_ney",
        *,
        eos_id: int = 1,
        unknown_id: int = 0,
        add_k: float = 1.0,
        memory_bytes: int | None = None,
    ) -> "NGramModel":
        """Estimate a model from a text.

        Args:
            tokens: (tokens,) ids, each line closed by `eos_id`.
            vocabulary: words by id; words that the text lacks share what smoothing leaves over.
            order: longest n-gram.
            smoothing: "kneser_ney" (interpolated modified), "witten_bell", "katz",
                "stupid_backoff", "add_k" or "maximum_likelihood".
            eos_id: end of a line.
            unknown_id: the unknown word.
            add_k: k of "add_k".
            memory_bytes: bound of the working memory; see `counting.count`.

        Raises:
            ArgumentError: an unknown smoothing or an order under 1.
            DataError: an empty text, or ids outside the vocabulary.
        """
        if smoothing not in SMOOTHINGS:
            raise ArgumentError(f"smoothing {smoothing!r} is unknown; use one of {[*SMOOTHINGS]}")
        if smoothing == "add_k" and add_k <= 0:
            raise ArgumentError(f"add_k={add_k} must be positive; 0 is maximum_likelihood")
        counts = count(tokens, len(vocabulary), order, eos_id, memory_bytes)
        estimates = SMOOTHINGS[smoothing](counts, add_k)
        return cls._build(list(vocabulary), smoothing, eos_id, unknown_id, counts, estimates)

    @classmethod
    def _build(
        cls,
        vocabulary: list[str],
        smoothing: str,
        eos_id: int,
        unknown_id: int,
        counts: Counts,
        estimates: Estimates,
    ) -> "NGramModel":
        sizes = [len(words) for words in counts.words]
        starts = np.cumsum([0, *sizes])
        children = [
            starts[k + 1] + np.searchsorted(counts.prefixes[k + 1], np.arange(sizes[k]))
            for k in range(counts.order - 1)
        ]
        leaves = np.full(sizes[-1] + 1, starts[-1], np.int64)
        with np.errstate(divide="ignore"):
            log_p = [np.log(p).astype(np.float32) for p in estimates.probabilities]
            weights = [np.log(w).astype(np.float32) for w in estimates.weights]
        log_p[0][-1] = -np.inf  # the begin of a sentence is never predicted
        return cls(
            vocabulary=vocabulary,
            order=counts.order,
            smoothing=smoothing,
            eos_id=eos_id,
            unknown_id=unknown_id,
            sizes=sizes,
            words=np.concatenate(counts.words),
            first_children=np.concatenate([*children, leaves]).astype(np.int64),
            log_probabilities_=np.concatenate(log_p),
            log_weights=np.concatenate([*weights, np.zeros(sizes[-1], np.float32)]),
        )

    @property
    def begin_id(self) -> int:
        """The node, and as a word the id, of the begin of a sentence."""
        return len(self.vocabulary)

    @property
    def bytes(self) -> int:
        """Size of the arrays in memory."""
        arrays = (self.words, self.first_children, self.log_probabilities_, self.log_weights)
        return sum(array.nbytes for array in arrays)

    def _score(self, tokens: Array) -> tuple[Array, Array]:
        return search.score(
            np.ascontiguousarray(tokens, np.int32),
            self.order,
            self.eos_id,
            self.begin_id,
            self.words,
            self.first_children,
            self.log_probabilities_,
            self.log_weights,
        )

    def log_probabilities(self, tokens: Array) -> Array:
        """log p of each token, (tokens,) float32, natural logarithm.

        Args:
            tokens: (tokens,) ids; after each `eos_id` the context is a new sentence's.
        """
        return self._score(tokens)[0]

    def matched_orders(self, tokens: Array) -> Array:
        """Order of the longest n-gram that each token was found in, (tokens,) int8."""
        return self._score(tokens)[1]

    def perplexity(self, tokens: Array) -> float:
        """exp of the mean -log p, ends of lines counted; infinite where something is impossible.

        Stupid back-off gives scores, so its "perplexity" compares with no other.
        """
        mean = float(-self.log_probabilities(tokens).astype(np.float64).mean())
        return float(np.exp(mean)) if mean < 700 else float("inf")

    def next_log_probabilities(self, context: Sequence[int]) -> Array:
        """log p of every word after a context, (vocab,) float32.

        Args:
            context: ids since the begin of the sentence, or the last n-1 of them at least, or
                with whole sentences before: what stands before the last `eos_id` is ignored.

        Example:
            >>> import numpy as np
            >>> tokens = np.array([2, 3, 1, 2, 4, 1])
            >>> model = NGramModel.train(
            ...     tokens, ["<unk>", "<eos>", "a", "cat", "dog"], order=2, smoothing="witten_bell"
            ... )
            >>> int(model.next_log_probabilities([]).argmax())
            2
        """
        ids = list(context)
        for k in reversed(range(len(ids))):
            if ids[k] == self.eos_id:
                ids = ids[k + 1 :]
                break
        ids = [self.begin_id, *ids]
        result = self.log_probabilities_[: len(self.vocabulary)].copy()
        for length in range(1, min(self.order - 1, len(ids)) + 1):
            node = self._find(ids[len(ids) - length :])
            if node is None:
                continue
            children = slice(int(self.first_children[node]), int(self.first_children[node + 1]))
            own = self.log_probabilities_[children]
            has_own = ~np.isnan(own)
            result += self.log_weights[node]
            result[self.words[children][has_own]] = own[has_own]
        return result

    def _find(self, ids: Sequence[int]) -> int | None:
        """The node of an n-gram."""
        node = ids[0]
        for word in ids[1:]:
            start, end = self.first_children[node], self.first_children[node + 1]
            place = start + np.searchsorted(self.words[start:end], word)
            if place == end or self.words[place] != word:
                return None
            node = int(place)
        return node

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file; `NGramModel.load` reads it."""
        from recurra.models.ngram import storage

        storage.save(self, path)

    @staticmethod
    def load(path: str | Path) -> "NGramModel":
        """Read what `save` wrote; see `storage.load` for what can go wrong."""
        from recurra.models.ngram import storage

        return storage.load(path)

    def sparsity(self, tokens: Array) -> list[dict[str, float]]:
        """What the classic texts call the problems of sparsity and storage, in figures.

        Args:
            tokens: a text that the model was not trained on.

        Returns:
            For each order: `order`; `ngrams` in the model; `unseen_share` of the text's n-grams of
            that order that the model does not have; `matched_share` of its tokens whose
            probability came from that order; `bytes` in memory.
        """
        matched = self.matched_orders(tokens)
        reach = search.context_lengths(np.ascontiguousarray(tokens, np.int32), self.eos_id)
        per_node = self.bytes / max(len(self.words), 1)
        rows = []
        for order, size in enumerate(self.sizes, start=1):
            possible = reach + 1 >= order
            unseen = np.count_nonzero(possible & (matched < order))
            rows.append(
                {
                    "order": order,
                    "ngrams": size - (order == 1),
                    "unseen_share": float(unseen / max(int(np.count_nonzero(possible)), 1)),
                    "matched_share": float(np.count_nonzero(matched == order) / len(tokens)),
                    "bytes": round(size * per_node),
                }
            )
        return rows
