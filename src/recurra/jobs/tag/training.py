"""The tagging job: text, baseline, model, figures, run folder."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from recurra.data.lexicon import Lexicon
from recurra.data.tagged_text import TaggedSplits
from recurra.jobs import run_folder
from recurra.jobs.machine import provenance
from recurra.jobs.tag.config import TaggerConfig
from recurra.jobs.tag.corpus import Corpus, read_corpus
from recurra.jobs.tag.tagger import Tagger
from recurra.jobs.training import check_same_data
from recurra.tasks.tag.baseline import MostFrequentTag
from recurra.tasks.tag.metrics import Measured
from recurra.tasks.tag.task import compare, evaluate
from recurra.training.progress import Reporter

SAMPLES, SAMPLE_WORDS = 3, 14
DRAWN_TAGS = 16  # of the confusion


def train(
    config: TaggerConfig,
    folder: Path,
    reporter: Reporter,
    *,
    splits: TaggedSplits | None = None,
    corpus: Corpus | None = None,
    keep: bool = True,
) -> Tagger | None:
    """Train, measure and describe a tagger in its folder.

    Args:
        config: resolved.
        folder: for the log and the checkpoints, and the rest if `keep`.
        reporter: shows the progress.
        splits: the text, if it is in memory only.
        corpus: the text, if it was read already.
        keep: write the model and its figures.

    Returns:
        The tagger; `None` on all processes but the first.
    """
    from recurra.jobs.tag.network import train_tagger

    started_s = time.monotonic()
    if corpus is None:
        with reporter.stage("reading the text and its tags"):
            corpus = read_corpus(config.text, splits)
    facts = corpus.facts()
    check_same_data(folder, facts["fingerprint"])
    trained = train_tagger(config, corpus, folder, reporter)
    if trained is None:
        return None
    network, outcome = trained
    lexicon = corpus.lexicon
    with reporter.stage("measuring on valid and test"):
        valid = evaluate(network, lexicon, corpus.splits.valid)
        test = evaluate(network, lexicon, corpus.splits.test)
        baseline = measure_baseline(corpus)
    metrics = {
        "task": "tag",
        "model": "recurrent",
        "description": config.description(has_spans=lexicon.scheme is not None),
        "valid": valid.figures,
        "test": test.figures,
        "baselines": {"most_frequent_tag": baseline},
        "by_type": test.by_type,
        "unseen": test.unseen,
        "confusion": confusion_table(test),
        "parameters": sum(p.numel() for p in network.parameters()),
        "embedding_size": network.words.own.embedding_dim,
        "seconds": round(outcome.seconds, 3),
        "tokens_per_s": round(outcome.units_per_s, 1),
        **provenance(config.seed),
        "training": outcome.facts(),
        "data": {**facts, "in_memory": splits is not None},
    }
    rows = run_folder.read_rows(folder)
    tagger = Tagger(network, lexicon, config, metrics, rows, splits=splits)
    metrics["samples"] = _samples(tagger, corpus.splits)
    metrics["total_seconds"] = round(time.monotonic() - started_s, 3)
    if keep:
        with reporter.stage("writing the run folder and its report"):
            tagger.write(folder)
    return tagger


def measure_baseline(corpus: Corpus) -> dict[str, Any]:
    """Figures of the most frequent tag of each word, on valid and test."""
    started_s = time.monotonic()
    baseline = MostFrequentTag(corpus.splits.train)
    seconds = time.monotonic() - started_s
    parts = {"valid": corpus.splits.valid, "test": corpus.splits.test}
    return {
        **{
            name: compare(part, baseline.predict(part.words), corpus.lexicon).figures
            for name, part in parts.items()
        },
        "parameters": baseline.parameters(),
        "seconds": round(seconds, 3),
        "tokens_per_s": round(corpus.splits.train.tokens / max(seconds, 1e-9), 1),
    }


def primary_metric(lexicon_or_scheme: Lexicon | str | None) -> str:
    """What a tagger is chosen by: F1 of entities if its tags hold any, else accuracy."""
    scheme = lexicon_or_scheme
    scheme = scheme.scheme if isinstance(scheme, Lexicon) else scheme
    return "accuracy" if scheme is None else "f1"


def confusion_table(measured: Measured) -> dict[str, Any]:
    """The most frequent gold tags against each other: `tags`, and `counts` by gold and predicted.

    What is of another tag is counted in `left_out`.
    """
    gold = Counter[str]()
    for (own, _), count in measured.confusion.items():
        gold[own] += count
    tags = [tag for tag, _ in gold.most_common(DRAWN_TAGS)]
    counts = [[measured.confusion[own, other] for other in tags] for own in tags]
    return {
        "tags": tags,
        "counts": counts,
        "left_out": measured.confusion.total() - sum(map(sum, counts)),
    }


def _samples(tagger: Tagger, splits: TaggedSplits) -> list[str]:
    """A few sentences of the test text, each word with its tag, and the gold one where it errs."""
    fit = [i for i, words in enumerate(splits.test.words) if 5 <= len(words) <= SAMPLE_WORDS]
    chosen = fit[:: max(len(fit) // SAMPLES, 1)][:SAMPLES]
    answers = tagger.predict([splits.test.words[i] for i in chosen], confidence=False)
    return [
        " ".join(
            f"{word}/{tag}" if tag == gold else f"{word}/{tag}(not {gold})"
            for word, tag, gold in zip(answer.words, answer.tags, splits.test.tags[i], strict=True)
        )
        for i, answer in zip(chosen, answers, strict=True)
    ]
