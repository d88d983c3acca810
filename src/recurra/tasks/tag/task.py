"""Tagging as the trainer sees it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.encoded_sentences import UNSEEN, EncodedSentences, Words
from recurra.data.length_batches import LengthBatches
from recurra.data.lexicon import Lexicon
from recurra.data.spans import convert
from recurra.data.tagged_text import TaggedText
from recurra.errors import DataError
from recurra.models.tagger import RecurrentTagger
from recurra.tasks.tag.metrics import Measured, measure, metric_names
from recurra.tasks.tag.prediction import tag_sentences
from recurra.tasks.task import Step


class TaggingTask:
    """Trains a tagger on batches of sentences of about equal length.

    Args:
        model: the tagger.
        lexicon: its words, characters and tags.
        splits: "train", and the texts to evaluate on by name; "valid" is needed for training.
        batch_tokens: padded words of a batch at most.
        seed: of the order of sentences.

    The best model is chosen by F1 of entities, if the tags hold any, else by accuracy. Training
    sentences longer than 512 words are cut into pieces, empty ones are left out.

    Raises:
        DataError: no word to train on.

    Example: see `recurra.Tagger.train`, which builds all of these from files.
    """

    higher_is_better = True
    unit = "tokens"
    figures: tuple[str, ...] = ("nats_per_token",)

    def __init__(
        self,
        model: RecurrentTagger,
        lexicon: Lexicon,
        splits: dict[str, TaggedText],
        *,
        batch_tokens: int,
        seed: int = 0,
    ) -> None:
        self.model: nn.Module = model
        self._network, self.lexicon, self.splits = model, lexicon, splits
        has_spans = lexicon.scheme is not None
        self.primary_metric = "f1" if has_spans else "accuracy"
        self.metrics: tuple[str, ...] = metric_names(has_spans)
        train = splits["train"]
        pairs = [(words, tags) for words, tags in train if words]
        if not pairs:
            raise DataError(f"{train.where}: no word to train on")
        self.encoded = EncodedSentences([w for w, _ in pairs], lexicon, tags=[t for _, t in pairs])
        self.batches = LengthBatches(self.encoded.lengths, batch_tokens, seed=seed)
        model.words.count_words(lexicon.counts)
        self._rank, self._ranks = 0, 1

    def shard(self, rank: int, ranks: int) -> None:
        """Keep every `ranks`-th sentence of a batch, from `rank` on; see `batch`."""
        self._rank, self._ranks = rank, ranks

    def batches_per_epoch(self) -> int:
        """Batches of every epoch."""
        return len(self.batches)

    def batch(self, epoch: int, index: int) -> tuple[Words, Tensor, Tensor]:
        """Words and tags of this rank's sentences, and the number of words over all ranks.

        A rank without a sentence gets an empty one. The loss is divided by the words of all ranks,
        so that the mean over ranks of their gradients is the gradient of the whole batch.
        """
        pieces = self.batches.pieces(epoch, index)
        total = torch.tensor(int(self.encoded.lengths[pieces].sum()))
        own = pieces[self._rank :: self._ranks]
        if len(own):
            return self.encoded.batch(own), self.encoded.tag_batch(own), total
        nothing = self.encoded.batch(np.zeros(0, np.int64))
        return nothing, torch.full(nothing.places.shape, UNSEEN), total

    def count(self, batch: Any) -> int:
        """Words of the batch over all ranks."""
        return int(batch[2])

    def learning_rate_scale(self, batch: Any) -> float:
        """Batches hold about equal numbers of words."""
        return 1.0

    def initial_carry(self) -> Any:
        """Sentences depend on nothing before them."""
        return None

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one batch."""
        words, tags, total = batch
        loss = self._network.loss(words, tags, int(total)) * self._ranks
        return Step(loss, None, {"nats_per_token": loss.detach()})

    def evaluate(self, split: str) -> dict[str, float]:
        """See `Measured.figures`."""
        return evaluate(self._network, self.lexicon, self.splits[split]).figures


def evaluate(model: RecurrentTagger, lexicon: Lexicon, text: TaggedText) -> Measured:
    """Measure a tagger on a text; tags it was not trained on count as wrong and are named."""
    found = tag_sentences(model, lexicon, text.words, confidence=False)
    return compare(text, [sentence.tags for sentence in found], lexicon)


def compare(text: TaggedText, predicted: list[list[str]], lexicon: Lexicon) -> Measured:
    """Measure tags on a text, in the scheme of the lexicon's training text.

    Gold tags in another scheme of entities are converted first, and mended (`spans.convert`).
    """
    scheme = lexicon.source_scheme
    known = [tag for learned in lexicon.tags for tag in _in_scheme(learned, lexicon)]
    return measure(
        [convert(tags, scheme) for tags in text.tags] if scheme else text.tags,
        predicted,
        known_tags=known,
        unknown=[not lexicon.counts[lexicon.word_id(w)] for words in text.words for w in words],
        has_spans=scheme is not None,
    )


def _in_scheme(tag: str, lexicon: Lexicon) -> list[str]:
    """The tags of the training text's scheme that a learned tag may become."""
    if lexicon.source_scheme is None or tag == "O":
        return [tag]
    return [f"{prefix}-{tag.partition('-')[2]}" for prefix in "BIESLU"]
