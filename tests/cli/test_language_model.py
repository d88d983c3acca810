"""The verbs on a small run, from training to use; and design section 8's bad inputs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import recurra, refused
from toy_text import sentences, write_text

from recurra.models.ngram import arpa

SMALL = [
    *("--set", "hidden_size=24", "--set", "batch_size=4", "--set", "bptt_steps=12"),
    *("--set", "baselines=[3]", "--set", "warmup_steps=10", "--set", "learning_rate=0.02"),
    *("--set", "dropout=0.1", "--set", "input_dropout=0", "--set", "minimum_count=1"),
]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "toy.txt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "lstm"
    options = ("--data", text, "--out", folder, "--max-epochs", 4, "--seed", 3, *SMALL)
    result = recurra("train", "lm", *options, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


@pytest.fixture(scope="module")
def ngram(tmp_path_factory, text) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ngram"
    options = ("--data", text, "--out", folder, "--model", "ngram", "--set", "order=3")
    result = recurra("train", "lm", *options, "--set", "minimum_count=1")
    assert result.exit_code == 0, result.output
    return folder


def test_training_writes_the_whole_run_folder(trained):
    folder, printed = trained
    files = {path.name for path in folder.iterdir()}
    assert files >= {
        *("model.safetensors", "config.yaml", "metrics.json", "tokenizer.json", "log.csv"),
        *("report.html", "checkpoints"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"run": str(folder), **metrics} == printed
    assert metrics.keys() >= {
        *("task", "model", "valid", "test", "baselines", "parameters", "seconds"),
        *("peak_memory_bytes", "seed", "command", "versions", "machine"),
    }
    assert metrics["test"].keys() >= {"perplexity", "bits_per_byte", "tokens"}
    assert metrics["seed"] == 3
    assert metrics["test"]["perplexity"] < 8
    assert metrics["baselines"]["kneser_ney_3"]["test"]["perplexity"] < 8
    assert not list(folder.rglob("*.part"))


def test_the_report_shows_curves_and_needs_nothing_beside_it(run):
    page = (run / "report.html").read_text()
    for heading in ("Learning", "Sparsity and storage of n-grams", "What it writes"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/svg+xml;base64,") == 4
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_configuration_of_a_run_trains_the_same_model_again(run, tmp_path):
    again = tmp_path / "again"
    result = recurra("train", "lm", "--config", run / "config.yaml", "--out", again, "--json")
    assert result.exit_code == 0, result.output
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_mixed_precision_learns_as_much_and_is_measured_in_float32(trained, tmp_path, text):
    folder = tmp_path / "mixed"
    options = ("--data", text, "--out", folder, "--max-epochs", 4, "--seed", 3, *SMALL)
    result = recurra("train", "lm", *options, "--precision", "bf16-mixed", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    expected = trained[1]["test"]["perplexity"]
    assert metrics["test"]["perplexity"] == pytest.approx(expected, rel=0.05)
    assert metrics["test"]["perplexity"] != expected
    again = recurra("evaluate", folder, "--json")
    assert json.loads(again.stdout) == metrics["test"]


def test_evaluate_finds_the_test_split_again(run, trained):
    result = recurra("evaluate", run, "--json")
    assert json.loads(result.stdout) == trained[1]["test"]


def test_the_model_is_mixed_with_its_best_baseline(trained):
    metrics = trained[1]
    mixed = metrics["interpolated"]
    assert mixed["with"] == "kneser_ney_3"
    assert 0 <= mixed["weight"] <= 1
    parts = (metrics, metrics["baselines"]["kneser_ney_3"])
    assert mixed["valid"]["perplexity"] <= min(p["valid"]["perplexity"] for p in parts) + 1e-4
    assert mixed["test"]["tokens"] == metrics["test"]["tokens"]


def test_dynamic_evaluation_adapts_and_leaves_the_model_alone(run, trained):
    dynamic = json.loads(recurra("evaluate", run, "--dynamic", "--json").stdout)
    assert dynamic["learning_rate"] > 0
    assert dynamic["tokens"] == trained[1]["test"]["tokens"]
    assert dynamic["perplexity"] == pytest.approx(trained[1]["test"]["perplexity"], rel=0.3)
    assert json.loads(recurra("evaluate", run, "--json").stdout) == trained[1]["test"]


def test_dynamic_evaluation_is_not_for_ngrams(ngram):
    assert "an n-gram model has no gradient" in refused("evaluate", ngram, "--dynamic")


def test_counting_in_little_memory_gives_the_same_model_and_an_arpa_file(ngram, text, tmp_path):
    options = ("--data", text, "--model", "ngram", "--set", "order=3", "--set", "minimum_count=1")
    out = tmp_path / "bounded"
    recurra("train", "lm", *options, "--memory", 1, "--set", "arpa=true", "--out", out)
    assert (out / "model.safetensors").read_bytes() == (ngram / "model.safetensors").read_bytes()
    model = arpa.read(out / "model.arpa.gz")
    assert model.order == 3


def test_arpa_is_not_for_neural_models(text):
    said = refused("train", "lm", "--data", text, "--set", "arpa=true")
    assert "arpa is for an n-gram model" in said


def test_evaluate_measures_other_text(run, tmp_path):
    other = write_text(tmp_path / "other.txt", 50, seed=9)
    metrics = json.loads(recurra("evaluate", run, "--data", other, "--json").stdout)
    words = sum(len(line.split()) + 1 for line in sentences(50, 9))
    assert metrics["tokens"] == words
    assert metrics["perplexity"] < 8
    assert "perplexity" in recurra("evaluate", run, "--data", other).stdout


@pytest.mark.parametrize("which", ["run", "ngram"])
def test_generate_score_and_predict_with_every_kind_of_model(which, request):
    folder = request.getfixturevalue(which)
    generate = ("generate", folder, "the small", "--tokens", 8, "--seed", 5)
    first = recurra(*generate)
    assert first.stdout == recurra(*generate).stdout
    assert first.stdout.startswith("the small ")
    assert json.loads(recurra(*generate, "--json").stdout)["prompt"] == "the small"

    good, bad = "the cat sees the dog .", "cat the dog sees . the"
    scores = json.loads(recurra("score", folder, bad, good, "--json").stdout)
    assert [score["line"] for score in scores] == [good, bad]
    assert scores == json.loads(recurra("score", folder, "--json", stdin=f"{bad}\n{good}\n").stdout)

    (answer,) = json.loads(recurra("predict", folder, "the cat sees", "--json").stdout)
    assert answer["next"][0]["token"] == "the"
    assert answer["next"][0]["probability"] > 0.9


@pytest.mark.parametrize("name", ["run", "ngram"])
def test_validate_accepts_the_configuration_of_a_run(name, request):
    path = request.getfixturevalue(name) / "config.yaml"
    printed = recurra("validate", path).stdout
    assert yaml.safe_load(printed) == yaml.safe_load(path.read_text())


def test_char_and_bpe_models_are_measured_per_word_too(tmp_path, text):
    figures = {}
    for kind in ("char", "bpe"):
        options = ("--data", text, "--out", tmp_path / kind, "--max-epochs", 1, *SMALL)
        extra = ("--set", f"tokenizer={kind}", "--set", "vocabulary_size=300")
        result = recurra("train", "lm", *options, *extra, "--json")
        assert result.exit_code == 0, result.output
        figures[kind] = json.loads(result.stdout)["test"]
    bits = {kind: metrics["bits_per_byte"] for kind, metrics in figures.items()}
    assert figures["char"]["tokens"] > 2 * figures["bpe"]["tokens"]
    assert all(0.3 < value < 4 for value in bits.values())


def test_nnlm_trains_and_loads(tmp_path, text):
    folder = tmp_path / "nnlm"
    options = ("--data", text, "--out", folder, "--model", "nnlm", "--max-epochs", 3, *SMALL)
    result = recurra("train", "lm", *options)
    assert result.exit_code == 0, result.output
    assert "NNLM" in result.stdout
    assert recurra("score", folder, "the cat sees the dog .").exit_code == 0


def test_compare_puts_the_models_side_by_side(tmp_path, text):
    folder = tmp_path / "compared"
    options = ("--data", text, "--out", folder, "--cells", "rnn,lstm", "--max-epochs", 1, *SMALL)
    result = recurra("compare", "lm", *options, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert list(figures["models"]) == ["kneser_ney_3", "nnlm", "rnn", "lstm"]
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "Language models compared" in (folder / "report.html").read_text()
    assert recurra("evaluate", folder / "rnn", "--json").exit_code == 0


# Bad input: a message, exit code 2, nothing lost.


def test_a_used_folder_is_not_overwritten(run, text):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = refused("train", "lm", "--data", text, "--out", run)
    assert "exists and is not empty" in message
    assert f"--resume {run}" in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"good line\nbad \xe9 line\n", "line 2: byte 0xe9 at column 5 is not UTF-8"),
        (b"a\0b\n", "line 1: a NUL byte"),
        (b"one line\n", "too few to hold out"),
        (b"\n" * 200, "no word that occurs"),
    ],
)
def test_bad_text_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert message in refused("train", "lm", "--data", path, "--out", tmp_path / "run", *SMALL)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_missing_text_is_named(tmp_path):
    path = tmp_path / "none.txt"
    message = refused("train", "lm", "--data", path, "--out", tmp_path / "run")
    assert f"{path}: does not exist" in message


def test_too_little_text_says_what_to_do(tmp_path, text):
    options = ("--out", tmp_path / "run", "--set", "batch_size=50000", "--set", "baselines=[]")
    assert "too few for 50000 lanes" in refused("train", "lm", "--data", text, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "hiden_size=3"], "unknown key 'hiden_size'; did you mean 'hidden_size'?"),
        (["--set", "hidden_size=-3"], "network.hidden_size = -3: input should be greater than"),
        (["--cell", "lstn"], "there is no cell named 'lstn'; did you mean 'lstm'?"),
        (["--model", "transformer"], "model = 'transformer': input should be 'recurrent', 'ngram'"),
        (["--precision", "8"], "hardware.precision = '8': input should be '32-true'"),
        (["--set", "dropout=1.0"], "regularisation.dropout = 1.0: input should be less than 1"),
        (["--config", "nowhere.yaml"], "configuration nowhere.yaml cannot be read"),
        (["--set", "smoothing=magic", "--model", "ngram"], "smoothing 'magic' is unknown"),
        (["--set", "learning_rate=.nan"], "training.learning_rate = nan"),
    ],
)
def test_wrong_options_are_named(tmp_path, text, options, message):
    printed = refused("train", "lm", "--data", text, "--out", tmp_path / "run", *options)
    assert message in printed
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_an_unknown_task_or_verb_is_refused():
    assert "there is no task 'poetry'" in refused("train", "poetry")
    assert recurra("sing").exit_code == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "is not a folder"),
        (lambda run: (run / "config.yaml").unlink(), "is not a run of recurra"),
        (lambda run: (run / "config.yaml").write_text("- a"), "names no task"),
        (lambda run: (run / "config.yaml").write_text("a: ["), "config.yaml is damaged"),
        (lambda run: (run / "metrics.json").unlink(), "is not finished"),
        (lambda run: (run / "metrics.json").write_text('{"task"'), "metrics.json is damaged"),
        (lambda run: (run / "tokenizer.json").unlink(), "is damaged: "),
        (lambda run: (run / "tokenizer.json").write_text("{}"), "is damaged: "),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors"),
    ],
)
def test_a_damaged_or_foreign_run_folder_is_refused(run, tmp_path, damage, message):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    damage(copy)
    assert message in refused("evaluate", copy)
    assert message in refused("score", copy, "a line")


def test_weights_of_another_model_are_refused(run, ngram, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.copy(ngram / "model.safetensors", copy / "model.safetensors")
    assert "model.safetensors" in refused("score", copy, "a line")


def test_changed_text_is_noticed(tmp_path):
    path = write_text(tmp_path / "text.txt", 300)
    run = tmp_path / "run"
    options = ("--model", "ngram", "--set", "order=2", "--set", "minimum_count=1")
    assert recurra("train", "lm", "--data", path, "--out", run, *options).exit_code == 0
    write_text(path, 301)
    assert "has changed" in refused("evaluate", run)


def test_out_of_vocabulary_words_are_scored_and_not_an_error(run):
    result = recurra("score", run, "the zebra sees the quagga .", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["log_probability"] < 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "-1"], "temperature=-1"),
        (["--top-k", "0"], "top_k=0"),
        (["--top-p", "1.5"], "top_p=1.5"),
        (["--tokens", "-1"], "tokens=-1"),
    ],
)
def test_generation_options_out_of_range_are_named(run, options, message):
    assert message in refused("generate", run, *options)


def test_score_without_text_says_how_to_give_it(run, tmp_path):
    assert "no text given" in refused("score", run, stdin="")
    assert "none.txt: cannot be read" in refused("score", run, "--file", tmp_path / "none.txt")


def test_version_and_help():
    assert recurra("--version").stdout.startswith("recurra ")
    printed = recurra("--help").stdout
    for verb in ("train", "evaluate", "generate", "score", "compare", "validate", "doctor"):
        assert verb in printed


def test_doctor_checks_every_cell():
    result = recurra("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert all(cell["ok"] for cell in found["cells"])
    assert "right" in recurra("doctor").stdout


def test_bench_measures_beside_torch():
    result = recurra("bench", "step", "--cells", "gru", "--seconds", "0.02", "--json")
    rows = json.loads(result.stdout)
    assert [(row["shape"][0], row["pass"]) for row in rows[:2]] == [(1, "step"), (200, "sequence")]
    for row in rows:
        assert row["backend"] == "cpu"
        assert row["peer"] == "nn.GRU"
        assert row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"])
        assert 0 < row["gflops"] < 2 * row["roof_gflops"]
    ngrams = json.loads(recurra("bench", "ngram", "--json").stdout)
    assert [row["what"] for row in ngrams] == ["train", "score"]
    assert "has peers for" in refused("bench", "step", "--cells", "mingru")
    assert "expected one of" in refused("bench", "everything")
