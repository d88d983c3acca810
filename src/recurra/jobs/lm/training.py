"""The language-modelling job: text, baselines, model, figures, run folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recurra.data.splits import TextSplits
from recurra.jobs import run_folder
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.jobs.lm.corpus import Corpus, fingerprint, measure, read_corpus
from recurra.jobs.lm.language_model import LanguageModel
from recurra.jobs.lm.ngrams import Baseline, interpolate, measure_baselines, train_ngram
from recurra.jobs.lm.predictors import Trained
from recurra.jobs.machine import provenance
from recurra.jobs.training import check_same_data
from recurra.training.progress import Reporter
from recurra.training.ranks import is_main_process

SAMPLES, SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 4, 40, 0.8


def train(
    config: LanguageModelConfig,
    folder: Path,
    reporter: Reporter,
    *,
    splits: TextSplits | None = None,
    corpus: Corpus | None = None,
    keep: bool = True,
) -> LanguageModel | None:
    """Train, measure and describe a language model in its folder.

    Args:
        config: resolved.
        folder: for the log and the checkpoints, and the rest if `keep`.
        reporter: shows the progress.
        splits: the text, if it is in memory only.
        corpus: the text, if it was read already.
        keep: write the model and its figures.

    Returns:
        The model; `None` on all processes but the first.
    """
    started_s = time.monotonic()
    if corpus is None:
        with reporter.stage("reading and tokenising the text"):
            corpus = read_corpus(config.text, splits)
    check_same_data(folder, fingerprint(corpus.splits))
    if config.model == "ngram":
        trained: Trained | None = train_ngram(config, corpus, reporter)
        baselines: dict[str, Baseline] = {}
    else:
        from recurra.jobs.lm.network import train_neural

        baselines = measure_baselines(config, corpus, reporter) if is_main_process() else {}
        trained = train_neural(config, corpus, folder, reporter)
    if trained is None:
        return None
    with reporter.stage("measuring on valid and test"):
        metrics = _metrics(config, corpus, trained, baselines)
    metrics["total_seconds"] = round(time.monotonic() - started_s, 3)
    metrics["data"]["in_memory"] = splits is not None
    rows = run_folder.read_rows(folder)
    model = LanguageModel(trained.predictor, config, metrics, rows, splits=splits)
    if keep:
        with reporter.stage("writing the run folder and its report"):
            model.write(folder)
    return model


def _metrics(
    config: LanguageModelConfig,
    corpus: Corpus,
    trained: Trained,
    baselines: Mapping[str, Baseline],
) -> dict[str, Any]:
    predictor = trained.predictor
    options = {"tokens": SAMPLE_TOKENS, "temperature": SAMPLE_TEMPERATURE, "stop": "\n"}
    samples = [
        "".join(predictor.stream("", seed=config.seed + i, **options)) for i in range(SAMPLES)
    ]
    return {
        "task": "lm",
        "model": config.model,
        "description": trained.description,
        **measure(predictor, corpus),
        "baselines": {name: baseline.figures for name, baseline in baselines.items()},
        **({"interpolated": interpolate(predictor, baselines, corpus)} if baselines else {}),
        "parameters": predictor.parameters(),
        "seconds": round(trained.seconds, 3),
        "tokens_per_s": round(trained.tokens_per_s, 1),
        **provenance(config.seed),
        "training": trained.facts,
        "data": corpus.facts(),
        "samples": samples,
        **({"sparsity": trained.sparsity} if trained.sparsity else {}),
    }
