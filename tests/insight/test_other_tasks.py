"""Gates and gradients of taggers, classifiers, translators and forecasters."""

import math
from datetime import date, timedelta
from pathlib import Path

import pytest
import torch

import recurra
from recurra.errors import ArgumentError
from recurra.insight import record_gates
from recurra.jobs.inspection.subjects import Subject, input_of, open_subject, what_layer_reads
from recurra.layers import GRU, Recurrent

SIZES = {"hidden_size": 6, "max_epochs": 1, "warmup_steps": 0}


def _tagger(folder: Path) -> recurra.Tagger:
    words = ["the", "cat", "(", "or", "bird", ")", "sleeps", "7"]
    tags = ["DET", "NOUN", "P", "C", "NOUN", "P", "VERB", "NUM"]
    sentence = "\n".join(f"{word}\t{tag}" for word, tag in zip(words, tags, strict=True))
    path = folder / "toy.conll"
    path.write_text("\n\n".join([sentence] * 400) + "\n", "utf-8")
    return recurra.Tagger.train(path, crf=False, num_layers=2, batch_tokens=400, **SIZES)


def _classifier(folder: Path) -> recurra.Classifier:
    lines = [f"{word} ({n}),{word[0]}" for n in range(150) for word in ("meow", "woof")]
    path = folder / "toy.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n", "utf-8")
    return recurra.Classifier.train(path, tokenizer="char", **SIZES)


def _translator(folder: Path) -> recurra.Translator:
    lines = [f"ein Hund sieht {n} Hasen\ta dog sees {n} hares" for n in range(600)]
    path = folder / "toy.tsv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    options = {"tokenizer": "word", "embedding_size": 6, "batch_tokens": 400, "max_length": 8}
    return recurra.Translator.train(path, **options, **SIZES)


def _forecaster(folder: Path) -> recurra.Forecaster:
    rows = [
        f"{date(2020, 1, 1) + timedelta(days=k)},{100 + 30 * math.sin(k / 3):.3f}"
        for k in range(1100)
    ]
    path = folder / "toy.csv"
    path.write_text("\n".join(["day,sales", *rows]) + "\n", "utf-8")
    return recurra.Forecaster.train(path, target="sales", horizon=2, window=14, **SIZES)


MAKERS = {f.__name__[1:]: f for f in (_tagger, _classifier, _translator, _forecaster)}
LINES = {"tagger": "the cat ( 7 )", "classifier": "meow (7)", "translator": "ein Hund sieht"}


@pytest.fixture(scope="module", params=MAKERS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](folder).save(folder / request.param)
    return folder / request.param


def test_gates_of_every_task_are_drawn(run, inspect):
    text = [LINES[run.name]] if run.name in LINES else []
    folder, figures = inspect("gates", run, *text, "--tokens", 300)
    assert 100 <= figures["tokens"] <= 300
    assert all(0 < value < 1 for value in figures["mean_gates"].values() if value > 0)
    names = {finding["property"] for finding in figures["units"]}
    expected = {
        "tagger": "inside brackets",
        "classifier": "digits",
        "translator": "position in line",
        "forecaster": "sales",
    }
    assert expected[run.name] in names
    assert (folder / "attention-1.png").exists() == (run.name == "translator")


def test_gradients_of_every_task_are_followed(run, inspect):
    _, figures = inspect("gradients", run, "--lags", 6, "--rows", 3)
    (network,) = figures["networks"].values()
    for stage in ("at initialisation", "after training"):
        norms = network[stage]["norms"]
        assert len(norms) == figures["lags"] + 1
        assert 2 <= figures["lags"] <= 6
        assert norms[0] == pytest.approx(1)
        limits = network[stage]["path_bounds"]
        assert all(n <= 1.000001 * limit for n, limit in zip(norms, limits, strict=True))


def test_what_is_recorded_is_what_the_model_computed(run):
    subject = open_subject(run)
    (passage,) = subject.passages(subject.sequences(None)[:1], 10**6)
    x = passage.x
    with torch.no_grad():
        for module in subject.layers:
            x = module(x)[0]
    module, index, read = input_of(subject, passage.x, subject.num_layers - 1)
    parts = [
        record_gates(module, read, index=index, is_reverse=is_reverse).states[module.cell.states[0]]
        for is_reverse in ([False, True] if module.bidirectional else [False])
    ]
    torch.testing.assert_close(torch.cat(parts, -1), x, atol=2e-6, rtol=0)
    assert len(passage.labels) == len(passage.x)
    assert all(len(values) == len(passage.x) for values in passage.properties.values())


def test_a_layers_input_is_what_reached_it():
    below, above = GRU(3, 4), GRU(4, 5)
    x = torch.randn(6, 2, 3)
    seen = what_layer_reads(above, lambda: above(below(x)[0]))
    torch.testing.assert_close(seen, below(x)[0])


def test_what_cannot_be_looked_into_is_refused(run, refused, tmp_path):
    if run.name == "forecaster":
        assert "reads tables, not text" in refused("gates", run, "some text")
        assert "1 direction" in refused("gates", run, "--reverse", "--out", tmp_path / "a")
    else:
        assert "nothing but line ends" in refused("gates", run, " ")
    assert "layers 1 to" in refused("gates", run, "--layer", 9)


def test_a_network_without_recurrence_is_refused(tmp_path):
    path = tmp_path / "toy.csv"
    rows = [f"{date(2020, 1, 1) + timedelta(days=k)},{k % 7}" for k in range(200)]
    path.write_text("\n".join(["day,sales", *rows]) + "\n", "utf-8")
    options = {"target": "sales", "horizon": 2, "window": 7, "model": "dense"}
    recurra.Forecaster.train(path, **options, **SIZES).save(tmp_path / "dense")
    with pytest.raises(ArgumentError, match="no recurrence to look into"):
        open_subject(tmp_path / "dense")


def test_a_stack_in_one_module_is_read_layer_by_layer():
    module = Recurrent(recurra.find_cell("lstm"), 3, 4, 3, bidirectional=True).eval()
    x = torch.randn(5, 1, 3)
    subject = Subject(None, (module,), list, list, list)
    _, index, third = input_of(subject, x, 2)
    again, first, y = input_of(subject, x, 0)
    assert (index, first, again) == (2, 0, module)
    torch.testing.assert_close(y, x)
    forward = record_gates(module, third, index=2).states["h"]
    backward = record_gates(module, third, index=2, is_reverse=True).states["h"]
    torch.testing.assert_close(torch.cat((forward, backward), -1), module(x)[0])
