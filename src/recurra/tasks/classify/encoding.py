"""Examples as tensors: token ids or numbers laid end to end, classes as numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.data.examples import Examples, Labels
from recurra.data.ragged import Ragged
from recurra.data.spelling import Alphabet, SpelledWords, Spellings, distinct_places
from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError

_NO_SPREAD = 1e-4  # a channel that spreads less than that does not vary


@dataclass(frozen=True)
class EncodedInputs:
    """Inputs as a model reads them.

    Attributes:
        steps: token ids, or numbers (steps, channels); if words are spelled, their places in
            `words`.
        words: the distinct words, if they are spelled.
    """

    steps: Ragged
    words: SpelledWords | None = None

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def lengths(self) -> Tensor:
        """Steps of each input, (inputs,), int64."""
        return self.steps.lengths

    def select(self, indices: Tensor) -> "EncodedInputs":
        """The inputs at `indices`, (inputs,), int64, in that order."""
        return replace(self, steps=Ragged.of([self.steps[k] for k in indices.tolist()]))

    def batch(
        self, indices: Sequence[int] | np.ndarray, longest: int | None = None
    ) -> tuple[Tensor, Tensor, Spellings | None]:
        """`(inputs, lengths, spelled)` of some inputs side by side; see `Ragged.batch`."""
        padded, lengths = self.steps.batch(indices, longest)
        if self.words is None:
            return padded, lengths, None
        distinct, places = np.unique(padded.numpy(), return_inverse=True)
        inputs = torch.from_numpy(places.reshape(padded.shape))
        return inputs, lengths, self.words.select(distinct)


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as a model reads them.

    Attributes:
        inputs: tokens or numbers.
        targets: (examples,), int64, -1 for a class the model does not know; multi-label:
            (examples, classes), float32, 0 or 1.
        unknown_labels: labels that the model does not know, with how often each occurs.
        unknown_tokens: how many tokens are the unknown one.
        leaves: of classes in a hierarchy, the leaf of each example, (examples,), int64: what a
            model with leaves is trained on.
        unseen_by: the member of an ensemble that does not learn from an example, (examples,),
            int64, -1 for none; `None`: training is over all of train, and nothing of valid.
    """

    inputs: EncodedInputs
    targets: Tensor
    unknown_labels: dict[str, int] = field(default_factory=dict)
    unknown_tokens: int = 0
    leaves: Tensor | None = None
    unseen_by: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def encode(
    examples: Examples,
    classes: Sequence[str],
    tokenizer: Tokenizer | None,
    alphabet: Alphabet | None = None,
    *,
    multi_label: bool = False,
    leaves: Sequence[str] = (),
) -> EncodedExamples:
    """Examples as tensors.

    Args:
        examples: texts, or series if there is no tokenizer.
        classes: the model's, in their order.
        tokenizer: of texts.
        alphabet: that their words are spelled in; `None`: they are not.
        multi_label: targets are rows of 0 and 1.
        leaves: the model's, in their order, of examples that have some.

    Example:
        >>> tokenizer = Tokenizer.train(["ab"], "char")
        >>> data = Examples(["ab", "", "b"], [("y",), ("x",), ("z",)])
        >>> encoded = encode(data, ["x", "y"], tokenizer)
        >>> encoded.targets.tolist(), encoded.unknown_labels
        ([1, 0, -1], {'z': 1})
    """
    inputs = encode_inputs(examples.inputs, tokenizer, alphabet)
    number = {label: k for k, label in enumerate(classes)}
    unknown = Counter(label for labels in examples.labels for label in labels)
    for label in number:
        unknown.pop(label, None)
    if multi_label:
        targets = torch.zeros(len(examples), len(classes))
        for i, labels in enumerate(examples.labels):
            targets[i, [number[label] for label in labels if label in number]] = 1
    else:
        targets = torch.tensor(
            [number.get(labels[0], -1) if labels else -1 for labels in examples.labels]
        )
    unknown_tokens = 0
    if tokenizer is not None:
        ids = inputs.steps.values
        ids = ids if inputs.words is None else torch.from_numpy(inputs.words.ids)[ids]
        unknown_tokens = int((ids == tokenizer.unknown_id).sum())
    number = {leaf: k for k, leaf in enumerate(leaves)}
    own = torch.tensor([number[leaf] for leaf in examples.leaves]) if leaves else None
    return EncodedExamples(inputs, targets, dict(unknown), unknown_tokens, own)


def tokens_of(inputs: EncodedInputs, tokenizer: Tokenizer) -> list[list[str | None]]:
    """The tokens of texts as their ids say; `None` is one that is not in the vocabulary.

    Example:
        >>> tokenizer = Tokenizer.train(["a b"], "word")
        >>> tokens_of(encode_inputs(["b x", ""], tokenizer), tokenizer)
        [['b', None], []]
    """
    vocabulary: list[str | None] = [*tokenizer.vocabulary]
    vocabulary[tokenizer.unknown_id] = None
    ids = inputs.steps.values
    ids = ids if inputs.words is None else torch.from_numpy(inputs.words.ids)[ids]
    tokens = iter([vocabulary[k] for k in ids.tolist()])
    return [list(islice(tokens, length)) for length in inputs.lengths.tolist()]


def encode_inputs(
    inputs: Sequence[Any], tokenizer: Tokenizer | None, alphabet: Alphabet | None = None
) -> EncodedInputs:
    """Texts as token ids, without an end, or as spelled words; or series as they are.

    Raises:
        DataError: a number of a series is NaN or infinite.
    """
    if tokenizer is None:
        for k, series in enumerate(inputs):
            if not np.isfinite(series).all():
                step = int(np.argwhere(~np.isfinite(series))[0][0])
                raise DataError(
                    f"series {k}, step {step}: NaN or infinite; fill it, or leave the series out"
                )
        return EncodedInputs(Ragged.of([torch.from_numpy(series) for series in inputs]))
    if alphabet is not None:
        return _spelled(inputs, tokenizer, alphabet)
    ids = [torch.tensor(tokenizer.encode(text), dtype=torch.long) for text in inputs]
    return EncodedInputs(Ragged.of(ids))


def _spelled(texts: Sequence[str], tokenizer: Tokenizer, alphabet: Alphabet) -> EncodedInputs:
    words = [tokenizer.cut(text) for text in texts]
    distinct, places = distinct_places(list(chain.from_iterable(words)))
    distinct = distinct or [""]  # padding reads a word, if only one that stands nowhere
    ids = np.fromiter(map(tokenizer.token_id, distinct), np.int64, len(distinct))
    lengths = torch.tensor([len(text) for text in words], dtype=torch.long)
    steps = Ragged(torch.from_numpy(places), lengths)
    return EncodedInputs(steps, SpelledWords(ids, distinct, alphabet))


def check_training_labels(
    labels: Sequence[Labels], classes: Sequence[str], *, multi_label: bool, where: str
) -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        DataError: one class only; or, unless multi-label, an example of none or of several.

    Example:
        >>> check_training_labels([("x",)], ["x"], multi_label=False, where="a.csv")
        Traceback (most recent call last):
        ...
        recurra.errors.DataError: a.csv: all 1 training examples have the label 'x'; a classifier \
needs two classes or more
    """
    if not multi_label:
        for i, found in enumerate(labels):
            if len(found) != 1:
                raise DataError(
                    f"{where}: training example {i + 1} has {len(found)} labels {found}; expected "
                    "one, or set multi_label=true"
                )
    if len(classes) < (1 if multi_label else 2):
        what = f"the label {classes[0]!r}" if classes else "no label"
        raise DataError(
            f"{where}: all {len(labels)} training examples have {what}; a classifier needs two "
            "classes or more"
        )


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (channels,) each, 1 where it does not vary.

    Args:
        values: (steps, channels).
    """
    values = values.double()
    mean, spread = values.mean(0), values.std(0, correction=0)
    varies = spread > _NO_SPREAD * mean.abs().clamp_min(1e-30)
    return mean.float(), torch.where(varies, spread, 1.0).float()


def balanced_weights(targets: Tensor, classes: int) -> list[float]:
    """Weights of the classes that make each count alike: examples / (classes · its examples).

    Args:
        targets: (examples,), int64, or (examples, classes) of 0 and 1.

    Example:
        >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
        [0.6666666666666666, 2.0]
    """
    if targets.dim() == 2:
        counts = targets.sum(0).tolist()
    else:
        counts = torch.bincount(targets[targets >= 0], minlength=classes).tolist()
    total = sum(counts)
    return [total / (classes * max(count, 1)) for count in counts]
