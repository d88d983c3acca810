"""BLEU and chrF as sacreBLEU computes them, with its signatures; exact match; likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recurra.data.parallel import ParallelText
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.encoding import Tokenizers
from recurra.tasks.translate.search import Decoding
from recurra.tasks.translate.translation import (
    nats_per_token,
    score_pairs,
    translate_lines,
    unknown_share,
)

METRICS = ("bleu", "chrf", "exact_match", "nats_per_token")


@dataclass(frozen=True)
class Measured:
    """What a model does on a text.

    Attributes:
        figures: `bleu` and `chrf` in 0..100, `exact_match` in 0..1, `nats_per_token` of the
            references, `sentences`, `tokens`, `source_unknown_share`.
        signatures: of sacreBLEU, by metric.
        hypotheses: the translations.
    """

    figures: dict[str, float]
    signatures: dict[str, str]
    hypotheses: list[str]


def measure(
    model: RecurrentTranslator,
    tokenizers: Tokenizers,
    text: ParallelText,
    options: Decoding,
    *,
    ratio: float = 2.0,
) -> Measured:
    """Translate a text's sources and compare with its targets.

    Args:
        model: used in evaluation mode.
        tokenizers: of both sides.
        text: references; blank sources have empty translations and count as all others.
        options: of the search.
        ratio: see `translate_lines`.
    """
    best = translate_lines(model, tokenizers, text.source, options, ratio=ratio)
    hypotheses = [found[0].text if found else "" for found in best]
    figures, signatures = corpus_metrics(hypotheses, text.target)
    scores = score_pairs(model, tokenizers, text)
    further: dict[str, float] = {
        "nats_per_token": nats_per_token(scores),
        "sentences": len(text),
        "tokens": sum(one.tokens for one in scores),
        "source_unknown_share": unknown_share(text.source, tokenizers.source),
    }
    return Measured({**figures, **further}, signatures, hypotheses)


def corpus_metrics(
    hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """`bleu`, `chrf` (0..100), `exact_match` (0..1); and sacreBLEU's signatures.

    Cased, tokenised by 13a; one reference.

    Example:
        >>> figures, signatures = corpus_metrics(["the cat sat on a mat"], ["the cat sat on a mat"])
        >>> round(figures["bleu"], 6), figures["exact_match"]
        (100.0, 1.0)
        >>> signatures["bleu"].split("|version")[0]
        'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    figures, signatures = {"bleu": 0.0, "chrf": 0.0, "exact_match": 0.0}, {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        if hypotheses:
            score: Any = metric.corpus_score(list(hypotheses), [list(references)])
            figures[name] = float(score.score)
            signatures[name] = str(metric.get_signature())
    equal = sum(a == b for a, b in zip(hypotheses, references, strict=True))
    figures["exact_match"] = equal / max(len(hypotheses), 1)
    return figures, signatures


def sentence_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF of each sentence, 0..100: which translations are the best and the worst."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [
        float(metric.sentence_score(a, [b]).score)
        for a, b in zip(hypotheses, references, strict=True)
    ]
