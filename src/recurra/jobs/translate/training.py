"""The translation job: text, model, figures, run folder."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recurra.data.parallel import ParallelSplits, ParallelText
from recurra.jobs import run_folder
from recurra.jobs.machine import provenance, versions
from recurra.jobs.training import check_same_data
from recurra.jobs.translate.config import TranslatorConfig
from recurra.jobs.translate.corpus import Corpus, read_corpus
from recurra.jobs.translate.translator import Translator
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.metrics import corpus_metrics, measure, sentence_chrf
from recurra.tasks.translate.search import Decoding
from recurra.tasks.translate.translation import Translation, translate_lines
from recurra.training.progress import Reporter

SHOWN, MAPS, MAP_TOKENS = 5, 3, 40


def train(
    config: TranslatorConfig,
    folder: Path,
    reporter: Reporter,
    *,
    splits: ParallelSplits | None = None,
    corpus: Corpus | None = None,
    keep: bool = True,
) -> Translator | None:
    """Train, measure and describe a translator in its folder.

    Args:
        config: resolved.
        folder: for the log and the checkpoints, and the rest if `keep`.
        reporter: shows the progress.
        splits: the text, if it is in memory only.
        corpus: the text, if it was read already.
        keep: write the model and its figures.

    Returns:
        The translator; `None` on all processes but the first.
    """
    from recurra.jobs.translate.network import train_translator

    started_s = time.monotonic()
    search = config.decoding.decoding()
    if corpus is None:
        with reporter.stage("reading the text and its translations"):
            corpus = read_corpus(config.text, splits)
    facts = corpus.facts()
    check_same_data(folder, facts["fingerprint"])
    trained = train_translator(config, corpus, folder, reporter)
    if trained is None:
        return None
    task, outcome = trained
    network: RecurrentTranslator = task.model  # type: ignore[assignment]
    facts["pairs_left_out_as_too_long"] = task.pairs.too_long
    facts["pairs_left_out_as_empty"] = task.pairs.empty
    tokenizers, ratio = corpus.tokenizers, corpus.ratio
    with reporter.stage("translating valid and test"):
        first_s = time.monotonic()
        valid = measure(network, tokenizers, corpus.splits.valid, search, ratio=ratio)
        test = measure(network, tokenizers, corpus.splits.test, search, ratio=ratio)
        seconds = time.monotonic() - first_s
        greedy = translate_lines(
            network,
            tokenizers,
            corpus.splits.test.source,
            Decoding(beam_size=1, max_length=search.max_length),
            ratio=ratio,
        )
        greedy_figures, _ = corpus_metrics(
            [found[0].text for found in greedy], corpus.splits.test.target
        )
    metrics = {
        "task": "translate",
        "model": "recurrent",
        "description": config.description(),
        "valid": valid.figures,
        "test": test.figures,
        "greedy_test": greedy_figures,
        "baselines": {"copy_of_the_source": measure_copy(corpus.splits)},
        "signatures": test.signatures,
        "chosen_by": task.primary_metric,
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(outcome.seconds, 3),
        "tokens_per_s": round(outcome.units_per_s, 1),
        "translated_sentences_per_s": round(
            (len(corpus.splits.valid) + len(corpus.splits.test)) / max(seconds, 1e-9), 1
        ),
        **provenance(config.seed),
        "training": outcome.facts(),
        "data": {**facts, "in_memory": splits is not None},
        "length_ratio_bound": ratio,
        "samples": _samples(corpus.splits.test, test.hypotheses),
    }
    metrics["versions"] = {**versions(), "sacrebleu": _sacrebleu_version()}
    rows = run_folder.read_rows(folder)
    translator = Translator(
        network, tokenizers, corpus.direction, config, metrics, rows, splits=splits
    )
    translator.maps = attention_maps(translator, corpus.splits.test.source)
    metrics["total_seconds"] = round(time.monotonic() - started_s, 3)
    if keep:
        with reporter.stage("writing the run folder and its report"):
            translator.write(folder)
    return translator


def attention_maps(translator: Translator, lines: Sequence[str]) -> list[dict[str, Any]]:
    """Where each token of a few translations looked; none without attention."""
    if translator.network.attention is None:
        return []
    tokenizer = translator.tokenizers.source
    short = [line for line in lines if 0 < len(tokenizer.tokens(line)) <= MAP_TOKENS]
    chosen = short[:: max(len(short) // MAPS, 1)][:MAPS]
    found = translator.translate(chosen, with_attention=True)
    return [attention_of(best[0]) for best in found]


def attention_of(one: Translation) -> dict[str, Any]:
    """Where each token of a translation looked, its end too, as `attention_map` draws it."""
    assert one.attention is not None
    return {
        "source": [*one.source_tokens, "<eos>"],
        "target": [*one.tokens, "<eos>"][: len(one.attention)],
        "weights": [[round(float(w), 4) for w in row] for row in one.attention],
    }


def _samples(text: ParallelText, hypotheses: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The best, the worst and a few other translations by chrF."""
    scores = sentence_chrf(hypotheses, text.target)
    order = sorted(range(len(text)), key=lambda i: -scores[i])
    order = [i for i in order if text.source[i].strip()]
    every = max(len(order) // SHOWN, 1)
    chosen = {
        "some": sorted(order)[::every][:SHOWN],
        "best": order[:SHOWN],
        "worst": order[::-1][:SHOWN],
    }
    return {
        name: [
            {
                "source": text.source[i],
                "translation": hypotheses[i],
                "reference": text.target[i],
                "chrf": round(scores[i], 2),
            }
            for i in places
        ]
        for name, places in chosen.items()
    }


def measure_copy(splits: ParallelSplits) -> dict[str, Any]:
    """Figures of the source taken as its own translation."""
    return {
        "valid": corpus_metrics(splits.valid.source, splits.valid.target)[0],
        "test": corpus_metrics(splits.test.source, splits.test.target)[0],
        "parameters": 0,
        "seconds": 0.0,
        "tokens_per_s": 0.0,
    }


def _sacrebleu_version() -> str:
    from importlib.metadata import version

    return version("sacrebleu")
