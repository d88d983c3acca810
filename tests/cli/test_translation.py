"""`recurra … translate` on a small run, from training to use; and bad inputs."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from commands import recurra, refused

import recurra as package
from recurra.data.parallel import ParallelSplits, ParallelText

WORDS = {"der": "the", "Hund": "dog", "Hase": "hare", "sieht": "sees", "frisst": "eats"}
LINES = [
    f"der {a} {v} der {b}"
    for a, v, b in product(["Hund", "Hase"], ["sieht", "frisst"], ["Hund", "Hase"])
]
SMALL = [
    *("--set", "hidden_size=24", "--set", "embedding_size=16", "--set", "tokenizer=word"),
    *("--set", "vocabulary=separate", "--set", "batch_tokens=90", "--set", "learning_rate=0.02"),
    *("--set", "dropout=0", "--set", "input_dropout=0", "--set", "warmup_steps=5"),
]


def translated(line: str) -> str:
    return " ".join(WORDS[word] for word in line.split())


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("text")
    lines = [*LINES * 20, ""]
    for name, content in (("toy.de", lines), ("toy.en", [translated(line) for line in lines])):
        (folder / name).write_text("\n".join(content) + "\n")
    return folder / "toy.de", folder / "toy.en"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, files) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "translator"
    data = [part for path in files for part in ("--data", path)]
    options = ("--out", folder, "--max-epochs", 6, "--seed", 3, *SMALL)
    result = recurra("train", "translate", *data, *options, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


def test_training_learns_measures_and_describes(trained) -> None:
    folder, metrics = trained
    assert metrics["test"]["exact_match"] == metrics["valid"]["exact_match"] == 1.0
    assert metrics["test"]["bleu"] == pytest.approx(100.0)
    assert metrics["greedy_test"]["bleu"] == pytest.approx(100.0)
    assert metrics["baselines"]["copy_of_the_source"]["test"]["exact_match"] == 0.0
    assert metrics["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert metrics["description"] == "BiLSTM encoder, LSTM decoder, dot attention, 1 layer of 24"
    assert metrics["data"]["pairs_left_out_as_empty"] == 0  # the empty one is in valid
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.safetensors", "tokenizer.json", "metrics.json", "log.csv"}
    page = (folder / "report.html").read_text()
    assert page.count("<img") == 5  # learning, gradients, three maps of attention
    assert "Worst, by chrf" in page


def test_evaluation_is_that_of_training_on_any_pair_of_files(trained, files, tmp_path) -> None:
    folder, metrics = trained
    own = json.loads(recurra("evaluate", folder, "--json").stdout)
    assert {name: own[name] for name in metrics["test"]} == metrics["test"]
    assert own["bleu_signature"] == metrics["signatures"]["bleu"]
    table = tmp_path / "pairs.tsv"
    table.write_text(f"{LINES[0]}\t{translated(LINES[0])}\n{LINES[1]}\twrong\n")
    found = json.loads(recurra("evaluate", folder, "--data", table, "--json").stdout)
    assert (found["exact_match"], found["sentences"]) == (0.5, 2)
    wrong = refused("evaluate", folder, "--data", files[1], "--data", files[0])
    assert "source and target seem to be exchanged" in wrong


def test_prediction_keeps_every_line(run, tmp_path) -> None:
    file = tmp_path / "lines.txt"
    lines = [LINES[0], "", "  ", "Zürich 東京 \x00\u2028?".replace("\x00", ""), LINES[0], LINES[3]]
    lines.append("der " * 10_000)  # a bound in tokens holds for its translation, too
    file.write_text("\n".join(lines) + "\n")
    found = recurra("predict", run, "--file", file).stdout.removesuffix("\n").split("\n")
    assert len(found) == len(lines)
    assert found[0] == found[4] == translated(LINES[0])
    assert found[1] == found[2] == ""
    bound = package.load(run).config.decoding.max_length
    assert len(found[-1].split()) <= bound
    piped = recurra("predict", run, "-", stdin=file.read_text()).stdout
    assert piped.removesuffix("\n").split("\n") == found


def test_prediction_searches_as_it_is_told(run) -> None:
    line = LINES[2]
    best = recurra("predict", run, line, "--set", "n_best=3", "--set", "beam_size=4").stdout
    rows = [row.split(" ||| ") for row in best.strip().split("\n")]
    assert [row[0] for row in rows] == ["0"] * 3
    assert rows[0][1] == translated(line)
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    short = recurra("predict", run, line, "--set", "max_length=2").stdout
    assert len(short.split()) == 2
    (record,) = json.loads(recurra("predict", run, line, "--json").stdout)
    assert record["translation"] == translated(line)
    assert record["log_probability"] < 0
    assert [target for _, target in record["alignment"]] == list(range(5))
    aligned = recurra("predict", run, line, "--writes", "alignment").stdout.strip().split("\t")
    assert aligned[0] == translated(line)
    assert len(aligned[1].split()) == 5


def test_a_pipe_gets_each_line_as_soon_as_it_comes(run) -> None:
    command = [sys.executable, "-m", "recurra.cli.main", "predict", str(run), "-"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        for line in (LINES[0], "", LINES[5]):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == translated(line) + "\n"
        process.stdin.close()
        assert process.stdout.read() == ""


def test_given_translations_are_ranked(run) -> None:
    pairs = [f"{LINES[0]}\tthe dog eats the hare", f"{LINES[0]}\t{translated(LINES[0])}"]
    found = json.loads(recurra("score", run, *pairs, "--json").stdout)
    assert found[0]["line"] == pairs[1]
    assert found[0]["log_probability"] > found[1]["log_probability"]
    assert "line 1: 0 tabs; expected one" in refused("score", run, "no tab")


def test_python_gives_the_same_and_saves(run, tmp_path) -> None:
    translator = package.load(run)
    assert isinstance(translator, package.Translator)
    translator.save(tmp_path / "copy")
    again = package.load(tmp_path / "copy")
    lines = [LINES[1], "", "der Zork"]
    assert again.predict(lines) == translator.predict(lines)
    assert list(again.stream(lines)) == translator.predict(lines)
    assert again.predict(lines, beam_size=1)[0] == translated(LINES[1])
    with pytest.raises(package.RecurraError, match="'beams' is no option of the search"):
        translator.predict(lines, beams=3)


def test_training_goes_on_after_a_stop_to_the_same_weights(files, tmp_path) -> None:
    data = [part for path in files for part in ("--data", path)]
    options = (*data, *SMALL, "--set", "scheduled_sampling=0.3", "--set", "schedule=constant")
    for name, epochs in (("whole", 2), ("parts", 1)):
        out = ("--out", tmp_path / name, "--max-epochs", epochs)
        assert recurra("train", "translate", *options, *out).exit_code == 0
    resumed = recurra("train", "translate", "--resume", tmp_path / "parts", "--max-epochs", 2)
    assert resumed.exit_code == 0, resumed.output
    first, second = (package.load(tmp_path / name).network for name in ("whole", "parts"))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_text_in_memory_with_joint_tokens_tied_fed_and_smoothed(tmp_path) -> None:
    pairs = ParallelText(LINES, [translated(line) for line in LINES])
    options = {"vocabulary_size": 300, "tie_embeddings": "all", "input_feeding": True}
    options |= {"coverage": True, "label_smoothing": 0.1, "attention": "additive", "cell": "gru"}
    options |= {"hidden_size": 8, "embedding_size": 8, "max_epochs": 1, "max_length": 12}
    translator = package.Translator.train(ParallelSplits(pairs, pairs, pairs), **options)
    assert len(translator.predict(LINES[:2])) == 2
    translator.save(tmp_path / "run")
    with pytest.raises(package.RecurraError, match="trained on data in memory"):
        package.load(tmp_path / "run").evaluate()


def test_the_comparison_adds_one_thing_at_a_time(tmp_path) -> None:
    out = tmp_path / "compared"
    data = ("--data", tmp_path / "few.tsv")
    data[1].write_text("".join(f"{line}\t{translated(line)}\n" for line in LINES * 5))
    options = ("--cells", "rnn,gru", *data, "--out", out, "--max-epochs", 1, *SMALL)
    result = recurra("compare", "translate", *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    extensions = {"separate_weights", "source_at_every_step", "two_layers", "bidirectional"}
    extensions |= {"reverse_source", "attention"}
    assert set(found["models"]) == {"plain", *extensions, "cell_rnn", "everything"}
    sizes = {name: entry["parameters"] for name, entry in found["models"].items()}
    assert sizes["plain"] == sizes["reverse_source"] < sizes["separate_weights"]
    assert {"comparison.png", "report.html", "plain"} <= {path.name for path in out.iterdir()}


def test_bad_input_is_named(run, files, tmp_path) -> None:
    source, target = files
    assert "1 text file; expected two" in refused("train", "translate", "--data", source)
    swapped = ("--valid", target, "--valid", source)
    given = ("--data", source, "--data", target)
    assert "seem to be exchanged" in refused("train", "translate", *given, *swapped)
    bad = tmp_path / "bad.en"
    bad.write_text("one\n")
    both = refused("train", "translate", "--data", source, "--data", bad)
    assert "toy.de has 161 lines" in both
    assert "bad.en has 1" in both
    blank = tmp_path / "blank.tsv"
    blank.write_text("\t\n" * 9)
    assert "there is nothing to learn" in refused("train", "translate", "--data", blank)
    tie = ("--set", "tie_embeddings=all", "--set", "vocabulary=separate")
    assert "needs vocabulary=joint" in refused("train", "translate", *given, *tie)
    nbest = ("--set", "n_best=9")
    assert "n_best=9 is more than beam_size=5" in refused("train", "translate", *given, *nbest)
    assert "did you mean 'beam_size'" in refused("predict", run, "a", "--set", "beam_siz=3")
    assert "--set cell is of training" in refused("predict", run, "a", "--set", "cell=gru")
    latin = "der Hund\nZürich\n".encode("latin1")
    for form in ((), ("--json",)):
        result = recurra("predict", run, *form, "-", stdin=latin)
        assert result.exit_code == 2
        assert "stdin, line 2: byte 0xfc at column 2 is not UTF-8" in result.stderr
    assert "--count is not for a translator" in refused("predict", run, "a", "--count", 3)
    assert "--writes 'xml' is unknown" in refused("predict", run, "a", "--writes", "xml")
    assert "`recurra generate` is not for it" in refused("generate", run)
