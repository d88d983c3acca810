"""The language-modelling job: text, baselines, model, figures, run folder."""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Any

from recurra.data.splits import TextSplits
from recurra.errors import ConfigError
from recurra.jobs import run_folder
from recurra.jobs.configurations import config_class, from_run, resolve, to_yaml
from recurra.jobs.corpus import Corpus, absolute, fingerprint, measure, read_corpus
from recurra.jobs.language_model import LanguageModel, Paths, as_list
from recurra.jobs.language_model_config import LanguageModelConfig
from recurra.jobs.machine import machine, peak_memory_bytes, versions
from recurra.jobs.ngrams import Baseline, interpolate, measure_baselines, train_ngram
from recurra.jobs.predictors import Trained
from recurra.training.configuration import build, flatten, read_settings
from recurra.training.files import remove_leftovers, write_json, write_text
from recurra.training.log import read_log
from recurra.training.progress import Reporter
from recurra.training.ranks import is_main_process

SAMPLES, SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 4, 40, 0.8
RESUMABLE = (
    *("training.max_epochs", "training.max_minutes", "training.patience"),
    *("hardware.devices", "hardware.num_nodes"),
)


def train_task(
    task: str,
    *,
    config: Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    reporter: Reporter | None = None,
) -> LanguageModel | None:
    """Train a task into a run folder; what `recurra train` does.

    Args:
        task: "lm".
        config: a YAML file.
        settings: `KEY=VALUE`.
        flags: values by key, `None` for not given.
        out: the run folder; `None` makes a new one under `runs/`.
        resume: the folder of a run to go on with; only limits may then be changed.
        reporter: shows the progress.

    Returns:
        The trained model; `None` on all processes but the first.

    Raises:
        RecurraError: see design section 8.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    reporter = reporter if reporter and is_main_process() else Reporter()
    config_class(task)
    if resume is not None:
        resolved = _resumed(resume, config, settings, flags or {}, out)
        remove_leftovers(resume)
        return train_language_model(resolved, resume, reporter)
    resolved = resolve(task, config, settings, flags)
    resolved = resolved.model_copy(update={"text": absolute(resolved.text)})
    if not is_main_process():  # the run folder is the first process's
        with tempfile.TemporaryDirectory() as folder:
            return train_language_model(resolved, Path(folder), reporter)
    own = run_folder.new_folder(out, task)
    write_text(own / run_folder.CONFIG, to_yaml(resolved))
    return train_language_model(resolved, own, reporter)


def train_in_python(
    data: Paths | TextSplits | None,
    valid: Paths | None,
    test: Paths | None,
    out: str | Path | None,
    reporter: Reporter,
    options: Mapping[str, Any],
) -> LanguageModel:
    """What `LanguageModel.train` does."""
    splits = data if isinstance(data, TextSplits) else None
    paths = {"text.data": data, "text.valid": valid, "text.test": test}
    named = {k: as_list(v) for k, v in paths.items() if v is not None and v is not splits}  # type: ignore[arg-type]
    flags = {**options, **named}
    if splits is not None:  # a text at hand is not the embedded one, whose recipe does not apply
        config = build(LanguageModelConfig, flatten(LanguageModelConfig, flags, "option"))
    else:
        config = resolve("lm", flags=flags)
    config = config.model_copy(update={"text": absolute(config.text)})
    if out is not None:
        folder = run_folder.new_folder(out, "lm")
        write_text(folder / run_folder.CONFIG, to_yaml(config))
        trained = train_language_model(config, folder, reporter, splits)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            trained = train_language_model(config, Path(temporary), reporter, splits, keep=False)
    if trained is None:
        raise SystemExit(0)  # a further process of a distributed run: its work is done
    return trained


def train_language_model(
    config: LanguageModelConfig,
    folder: Path,
    reporter: Reporter,
    splits: TextSplits | None = None,
    *,
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
    _check_same_text(folder, corpus)
    if config.model == "ngram":
        trained: Trained | None = train_ngram(config, corpus, reporter)
        baselines: dict[str, Baseline] = {}
    else:
        from recurra.jobs.neural_training import train_neural  # Lightning takes seconds to import

        baselines = measure_baselines(config, corpus, reporter) if is_main_process() else {}
        trained = train_neural(config, corpus, folder, reporter)
    if trained is None:
        return None
    with reporter.stage("measuring on valid and test"):
        metrics = _metrics(config, corpus, trained, baselines)
    metrics["total_seconds"] = round(time.monotonic() - started_s, 3)
    metrics["data"]["in_memory"] = splits is not None
    log = folder / run_folder.LOG
    rows = read_log(log) if log.exists() else []
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
        "peak_memory_bytes": peak_memory_bytes(),
        "seed": config.seed,
        "command": command_line(),
        "versions": versions(),
        "machine": machine(),
        "training": trained.facts,
        "data": corpus.facts(),
        "samples": samples,
        **({"sparsity": trained.sparsity} if trained.sparsity else {}),
    }


def command_line() -> str:
    """The command that runs, as one would type it; "Python" for none of ours."""
    is_ours = Path(sys.argv[0]).name in ("recurra", "main.py")
    return join(["recurra", *sys.argv[1:]]) if is_ours else "Python"


def _check_same_text(folder: Path, corpus: Corpus) -> None:
    """A run that goes on must find the text it began with."""
    path = folder / "checkpoints" / "text.json"
    found = fingerprint(corpus.splits)
    if not path.exists():
        if is_main_process():
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"fingerprint": found})
        return
    expected = run_folder.read_json(path)["fingerprint"]
    if expected != found:
        raise ConfigError(
            f"{folder}: the text is not the one that the run began with (fingerprint {found}, "
            f"expected {expected}), so it cannot go on; restore the text or train anew"
        )


def _resumed(
    folder: Path,
    config: Path | None,
    settings: Sequence[str],
    flags: Mapping[str, Any],
    out: Path | None,
) -> LanguageModelConfig:
    """The configuration of a run that goes on, with new limits if there are any."""
    if config is not None or out is not None:
        raise ConfigError("--resume takes folder and configuration of the run: leave out --config")
    given = {name: value for name, value in flags.items() if value is not None}
    changes = {
        **read_settings(LanguageModelConfig, settings),
        **flatten(LanguageModelConfig, given, "option"),
    }
    refused = sorted(changes.keys() - set(RESUMABLE))
    if refused:
        raise ConfigError(
            f"--resume: {', '.join(refused)} cannot change in the middle of a run; these can: "
            f"{', '.join(RESUMABLE)}"
        )
    values = run_folder.read_config(folder)
    where = str(folder / run_folder.CONFIG)
    resolved = build(LanguageModelConfig, flatten(LanguageModelConfig, values, where), changes)
    if changes:
        write_text(folder / run_folder.CONFIG, to_yaml(resolved))
    return from_run(resolved.model_dump(mode="json"), where)
