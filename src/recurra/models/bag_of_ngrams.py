"""Bag of n-grams with multinomial logistic regression: what a recurrent classifier must beat.

    p(class | text) = softmax(Σ_k a_k W_k + b)
    a_k = (1 + ln(count of n-gram k)) √ln((1 + N) / N_k)

N is the number of training texts, N_k that of those which have the n-gram: what is in most texts
says little (inverse document frequency, Spärck Jones 1972; its root did better on valid). Order
beyond n tokens is not seen. W and b minimise the mean cross-entropy plus `penalty`/2 · ‖W‖² over
the number of texts, which is convex, by L-BFGS over the whole data. After Joachims 1998 and Wang &
Manning 2012, who found such models hard to beat. a is scaled to unit length.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import ArgumentError, DataError
from recurra.models.hierarchy import log_p_of_classes

START, END = "\x02", "\x03"
MAX_FEATURES = 1 << 19
Token = str | None  # None is an unknown token: no n-gram holds it


class LogisticRegression(nn.Module):
    """Multinomial logistic regression over sparse rows.

    A batch of rows is `(indices, values, starts)`: features and their values of all rows end to
    end, and where each row begins. An empty row has the answer b.

    Args:
        features: how many.
        classes: how many.
        multi_label: any number of classes may hold: a logistic regression for each.
        class_of_leaf: of classes in a hierarchy, the class that each leaf is in: `fit` is then
            given leaves, and a class has the sum of its leaves' probabilities. Empty: there are
            none.

    Example:
        >>> model = LogisticRegression(2, 2)
        >>> rows = torch.tensor([0, 1]), torch.ones(2), torch.tensor([0, 1])
        >>> model.fit(rows, torch.tensor([1, 0]), penalty=0.1)
        >>> model.log_probabilities(rows).argmax(1).tolist()
        [1, 0]
    """

    class_of_leaf: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        multi_label: bool = False,
        class_of_leaf: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.classes, self.multi_label = classes, multi_label
        outputs = len(class_of_leaf) or classes
        self.weight = nn.Parameter(torch.zeros(features, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        leaves = torch.tensor(list(class_of_leaf), dtype=torch.long)
        self.register_buffer("class_of_leaf", leaves, persistent=False)

    def forward(self, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Σ_k a_k W_k + b of each row, (rows, classes or leaves)."""
        indices, values, starts = rows
        scores: Tensor = _weighted_sums(self.weight, indices, values, starts) + self.bias
        return scores

    @torch.no_grad()
    def log_probabilities(self, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """log p of each class, (rows, classes), in nats."""
        return self.log_p(self(rows))

    def log_p(self, scores: Tensor) -> Tensor:
        """log p of each class, (…, classes), from the scores of `forward`."""
        if self.multi_label:
            return functional.logsigmoid(scores)
        log_p = scores.log_softmax(-1)
        if not len(self.class_of_leaf):
            return log_p
        return log_p_of_classes(log_p, self.class_of_leaf, self.classes)

    def fit(
        self,
        rows: tuple[Tensor, Tensor, Tensor],
        targets: Tensor,
        *,
        penalty: float = 1.0,
        max_iterations: int = 60,
    ) -> None:
        """Minimise mean cross-entropy + penalty / (2 · rows) · ‖W‖².

        Args:
            rows: see the class.
            targets: (rows,), int64, classes or leaves; multi-label (rows, classes), 0 or 1.
            penalty: strength of the regulariser, 0 or more.
            max_iterations: of L-BFGS.
        """
        if penalty < 0:
            raise ArgumentError(f"penalty={penalty} must not be negative")
        optimizer = torch.optim.LBFGS(
            self.parameters(),
            max_iter=max_iterations,
            history_size=10,
            tolerance_grad=1e-6,
            tolerance_change=1e-8,
            line_search_fn="strong_wolfe",
        )
        strength = penalty / len(targets)
        columns = _transposed(rows, len(self.weight))
        if not self.multi_label:
            targets = functional.one_hot(targets, self.weight.shape[1])
        truth = targets.to(self.weight.dtype)

        def loss() -> Tensor:  # gradients by hand: autograd's of the sparse product takes 20 times
            scores = self(rows)
            p = scores.sigmoid() if self.multi_label else scores.softmax(1)
            excess = (p - truth) / len(targets)
            self.weight.grad = _weighted_sums(excess, *columns) + strength * self.weight
            self.bias.grad = excess.sum(0)
            if self.multi_label:
                nats = functional.softplus(scores) - scores * truth
            else:
                nats = -scores.log_softmax(1) * truth
            value: Tensor = nats.sum() / len(targets)
            return value + strength / 2 * self.weight.square().sum()

        with torch.no_grad():
            optimizer.step(loss)  # type: ignore[arg-type, no-untyped-call, unused-ignore]


def _weighted_sums(table: Tensor, indices: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    """Σ_k values_k · table[indices_k] over each stretch that begins at one of `starts`."""
    result: Tensor = functional.embedding_bag(
        indices, table, starts, mode="sum", per_sample_weights=values
    )
    return result


def _transposed(
    rows: tuple[Tensor, Tensor, Tensor], features: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sparse matrix by columns."""
    indices, values, starts = rows
    counts = torch.diff(starts, append=starts.new_tensor([len(indices)]))
    row_of = torch.repeat_interleave(torch.arange(len(starts)), counts)
    order = indices.argsort(stable=True)
    sizes = torch.bincount(indices, minlength=features)
    return row_of[order], values[order], sizes.cumsum(0) - sizes


def select_rows(
    rows: tuple[Tensor, Tensor, Tensor], which: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of sparse rows, see `LogisticRegression`; `which` is (rows,), int64.

    Example:
        >>> rows = torch.tensor([5, 6, 7]), torch.ones(3), torch.tensor([0, 2, 2])
        >>> [part.tolist() for part in select_rows(rows, torch.tensor([2, 1, 0]))]
        [[7, 5, 6], [1.0, 1.0, 1.0], [0, 1, 1]]
    """
    indices, values, starts = rows
    counts = torch.diff(starts, append=starts.new_tensor([len(indices)]))[which]
    new_starts = counts.cumsum(0) - counts
    shift = torch.repeat_interleave(starts[which] - new_starts, counts)
    places = torch.arange(len(shift)) + shift
    return indices[places], values[places], new_starts


class BagOfNgrams:
    """Which n-grams texts have, as sparse rows for `LogisticRegression`.

    Args:
        texts: tokens (words or characters) of each training text, `None` for an unknown one.
        orders: shortest and longest n-gram.
        minimum_count: n-grams in fewer training texts are left out; of the rest the most frequent
            524,288 are kept.

    Raises:
        DataError: no n-gram is left.

    Example:
        >>> bag = BagOfNgrams([["a", "b"], ["b"]], orders=(1, 2), minimum_count=2)
        >>> bag.features
        ['b', 'b \\x03']
        >>> indices, values, starts = bag.rows([["b", "b"], []])
        >>> indices.tolist(), [round(v, 3) for v in values.tolist()], starts.tolist()
        ([0, 1], [0.861, 0.509], [0, 2])
        >>> bag.counts, bag.texts
        ({'b': 2, 'b \\x03': 2}, 2)
    """

    def __init__(
        self,
        texts: Sequence[Sequence[Token]],
        *,
        orders: tuple[int, int] = (1, 2),
        minimum_count: int = 1,
    ) -> None:
        if not 1 <= orders[0] <= orders[1]:
            raise ArgumentError(f"orders={orders}; expected 1 ≤ shortest ≤ longest")
        self.orders = orders
        counts = Counter(chain.from_iterable(set(self._ngrams(text)) for text in texts))
        kept = sorted((-n, ngram) for ngram, n in counts.items() if n >= minimum_count)
        self._count({ngram: -n for n, ngram in kept[:MAX_FEATURES]}, len(texts))
        if not self.features:
            raise DataError(f"no n-gram is in {minimum_count} training texts or more")

    @classmethod
    def of(cls, counts: Mapping[str, int], texts: int, orders: tuple[int, int]) -> "BagOfNgrams":
        """The bag that has these n-grams, in this order, each in so many of the texts."""
        bag = cls.__new__(cls)
        bag.orders = orders
        bag._count(counts, texts)
        return bag

    def _count(self, counts: Mapping[str, int], texts: int) -> None:
        self.counts, self.texts = dict(counts), texts
        self.features = list(counts)
        self.rarity = ((1 + texts) / torch.tensor(list(counts.values()))).log().sqrt()
        self._index = {ngram: k for k, ngram in enumerate(self.features)}

    def _ngrams(self, tokens: Sequence[Token]) -> Iterator[str]:
        padded: list[Token] = [START, *tokens, END] if tokens else []
        for order in range(self.orders[0], self.orders[1] + 1):
            items = tokens if order == 1 else padded
            for start in range(len(items) - order + 1):
                if (ngram := _ngram(items[start : start + order])) is not None:
                    yield ngram

    def ending_in(self, token: Token, before: Sequence[Token]) -> list[int]:
        """The known n-grams that end in a token, END among them, after the tokens `before`."""
        padded = [START, *before, token]
        found = []
        for order in range(self.orders[0], self.orders[1] + 1):
            if (order == 1 and token == END) or order > len(padded):
                continue
            ngram = _ngram(padded[-order:])
            if ngram is not None and ngram in self._index:
                found.append(self._index[ngram])
        return found

    def rows(self, texts: Sequence[Sequence[Token]]) -> tuple[Tensor, Tensor, Tensor]:
        """`(indices, values, starts)` of the texts; unknown n-grams are left out."""
        indices: list[int] = []
        values: list[Tensor] = [torch.zeros(0)]
        starts: list[int] = []
        for text in texts:
            starts.append(len(indices))
            counts = Counter(self._index[n] for n in self._ngrams(text) if n in self._index)
            found = sorted(counts)
            indices += found
            row = 1 + torch.tensor([float(counts[k]) for k in found]).log()
            values.append(functional.normalize(row * self.rarity[found], dim=0))
        return (
            torch.tensor(indices, dtype=torch.long),
            torch.cat(values),
            torch.tensor(starts, dtype=torch.long),
        )


def _ngram(tokens: Sequence[Token]) -> str | None:
    known = [token for token in tokens if token is not None]
    return " ".join(known) if len(known) == len(tokens) else None


class NgramClassifier:
    """A bag of n-grams with its logistic regression: from tokens to the classes' probabilities.

    Args:
        bag: of the n-grams that it knows.
        regression: over them.

    Example:
        >>> bag = BagOfNgrams([["a", "b"], ["b"]])
        >>> model = NgramClassifier(bag, LogisticRegression(len(bag.features), 2))
        >>> model.regression.fit(bag.rows([["a"], ["b"]]), torch.tensor([1, 0]), penalty=0.1)
        >>> model.log_probabilities([["a"], ["b"], []]).argmax(1).tolist()
        [1, 0, 0]
        >>> last = list(model.stream(["a", "b"]))[-1]
        >>> last.allclose(model.log_probabilities([["a", "b"]])[0])
        True
    """

    def __init__(self, bag: BagOfNgrams, regression: LogisticRegression) -> None:
        self.bag, self.regression = bag, regression

    def log_probabilities(self, texts: Sequence[Sequence[Token]]) -> Tensor:
        """log p of each class for the tokens of texts, (texts, classes), in nats."""
        return self.regression.log_probabilities(self.bag.rows(texts))

    @torch.no_grad()
    def stream(self, tokens: Iterable[Token]) -> Iterator[Tensor]:
        """The answer after each token as if the text ended there, (classes,) each.

        What is kept is the count of each known n-gram so far, and its weighted sum.
        """
        weight, bias = self.regression.weight, self.regression.bias
        rarity = self.bag.rarity.tolist()
        counts: Counter[int] = Counter()
        total, square = torch.zeros_like(bias, dtype=torch.float64), 0.0
        before: list[Token] = []
        for token in tokens:
            for feature in self.bag.ending_in(token, before):
                old = rarity[feature] * (1 + math.log(counts[feature])) if counts[feature] else 0.0
                counts[feature] += 1
                new = rarity[feature] * (1 + math.log(counts[feature]))
                total += (new - old) * weight[feature]
                square += new**2 - old**2
            before = [*before, token][-self.bag.orders[1] :]
            ends = self.bag.ending_in(END, before)
            summed = total + self.bag.rarity[ends] @ weight[ends]
            length = math.sqrt(square + float(self.bag.rarity[ends].square().sum()))
            yield self.regression.log_p((summed / length if length else summed).float() + bias)
