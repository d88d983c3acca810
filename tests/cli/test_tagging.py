"""`recurra … tag` on a small run, from training to use; and bad inputs."""

import json
from pathlib import Path

import pytest
from commands import recurra, refused

import recurra as package
from recurra.data.tagged_text import TaggedText, split_sentences

SENTENCES = [
    ("the/O cat/O sees/O Anna/B-PER Lee/I-PER ./O"),
    ("Anna/B-PER Lee/I-PER lives/O in/O Oslo/B-LOC ./O"),
    ("in/O Oslo/B-LOC the/O cat/O sleeps/O"),
]
SMALL = [
    *("--set", "hidden_size=12", "--set", "embedding_size=12", "--set", "character_size=8"),
    *("--set", "batch_tokens=60", "--set", "warmup_steps=5", "--set", "learning_rate=0.03"),
    *("--set", "dropout=0", "--set", "input_dropout=0"),
]


def write_conll(path: Path, repeats: int = 30) -> Path:
    blocks = ["\n".join(s.replace("/", "\t").split(" ")) for s in SENTENCES * repeats]
    path.write_text("\n\n".join(blocks) + "\n")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_conll(tmp_path_factory.mktemp("text") / "toy.conll")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "tagger"
    options = ("--data", text, "--out", folder, "--max-epochs", 5, "--seed", 3, *SMALL)
    result = recurra("train", "tag", *options, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


def test_training_learns_measures_and_describes(trained) -> None:
    folder, metrics = trained
    assert metrics["task"] == "tag"
    assert metrics["description"] == "BiLSTM-CRF, 1 layer of 12"
    assert metrics["test"]["f1"] == metrics["test"]["accuracy"] == 1.0
    assert metrics["test"]["tokens"] == metrics["data"]["test_tokens"]
    assert metrics["baselines"]["most_frequent_tag"]["test"]["f1"] == 1.0
    assert metrics["by_type"]["PER"]["f1"] == 1.0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.safetensors", "config.yaml", "metrics.json", "vocabulary.json"}
    page = (folder / "report.html").read_text()
    assert "Rows are the gold tags" in page
    assert page.count("<img") == 3  # learning, gradients, confusion


def test_evaluation_is_that_of_training_and_names_unseen_tags(trained, tmp_path) -> None:
    folder, metrics = trained
    own = json.loads(recurra("evaluate", folder, "--json").stdout)
    assert {name: own[name] for name in metrics["test"]} == metrics["test"]
    other = tmp_path / "other.conll"
    other.write_text("the O\nOslo B-GPE\n")
    found = json.loads(recurra("evaluate", folder, "--data", other, "--json").stdout)
    assert (found["unseen_tags"], found["unseen_tag_B-GPE"]) == (1, 1)
    assert "unseen tag B-GPE" in recurra("evaluate", folder, "--data", other).stdout


def test_prediction_of_raw_text_tokens_and_conll(run, tmp_path) -> None:
    found = json.loads(recurra("predict", run, "The cat sees Anna Lee. In Oslo", "--json").stdout)
    assert [sentence["words"][-1] for sentence in found] == [".", "Oslo"]
    assert found[0]["tags"][3:] == ["B-PER", "I-PER", "O"]
    assert all(0 < p <= 1 for p in found[0]["confidence"])
    file = write_conll(tmp_path / "in.conll", repeats=1)
    result = recurra("predict", run, "--file", file, "--reads", "conll", "--writes", "conll")
    assert result.stdout.strip() == file.read_text().strip()
    tokens = ("predict", run, "--reads", "tokens", "--writes", "jsonl", "-")
    lines = recurra(*tokens, stdin="Anna Lee ?\n\nOslo.x\n").stdout.strip().split("\n")
    assert [json.loads(line)["words"] for line in lines] == [["Anna", "Lee", "?"], [], ["Oslo.x"]]
    assert "probability" in recurra("predict", run, "Anna").stdout


def test_python_gives_the_same_and_saves(run, tmp_path) -> None:
    tagger = package.load(run)
    assert isinstance(tagger, package.Tagger)
    tagger.save(tmp_path / "copy")
    again = package.load(tmp_path / "copy")
    words = ["Anna", "Lee", "sees", "Zork"]
    assert again.predict([words]) == tagger.predict([words])
    assert again.predict("Anna sleeps.") == tagger.predict(["Anna sleeps."])
    with pytest.raises(package.RecurraError, match="bidirectional=false"):
        tagger.stream()


def test_text_in_memory_and_streams() -> None:
    pairs = [[pair.rsplit("/", 1) for pair in s.split(" ")] for s in SENTENCES * 20]
    text = TaggedText([[w for w, _ in p] for p in pairs], [[t[-1] for _, t in p] for p in pairs])
    options = {"hidden_size": 8, "bidirectional": False, "batch_tokens": 60, "max_epochs": 1}
    tagger = package.Tagger.train(split_sentences(text), **options)
    stream = tagger.stream()
    words = ["Anna", "Lee", "new"]
    answers = [stream.step([word])[0][0] for word in words]
    assert answers == tagger.predict([words])[0].tags
    assert tagger.evaluate()["tokens"] == tagger.metrics["test"]["tokens"]


def test_comparison_of_cells_and_directions(text, tmp_path) -> None:
    out = tmp_path / "compared"
    options = ("--cells", "rnn", "--data", text, "--out", out, "--max-epochs", 1, *SMALL)
    result = recurra("compare", "tag", *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found["models"]) == {"rnn", "bi_rnn", "most_frequent_tag"}
    assert (found["metric"], found["training_tokens"]) == ("f1", found["data"]["train_tokens"])
    assert {"comparison.png", "report.html", "bi_rnn"} <= {path.name for path in out.iterdir()}


def test_pretrained_vectors_are_used(text, tmp_path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("oslo 1 0 2\nbergen 1 0 2\ncat 0 1 1\n")
    options = ("--set", f"vectors={vectors}", "--set", "embedding_size=null", "--max-epochs", 1)
    folder = tmp_path / "run"
    result = recurra("train", "tag", "--data", text, "--out", folder, *SMALL, *options, "--json")
    assert result.exit_code == 0, result.output
    tagger = package.load(folder)
    assert tagger.network.words.own.embedding_dim == 3
    assert tagger.lexicon.word_id("bergen")


def test_bad_input_is_named(run, text, tmp_path) -> None:
    bad = tmp_path / "bad.conll"
    bad.write_text("a O\nb\n")
    assert "bad.conll, line 2: 1 columns, expected 2" in refused("train", "tag", "--data", bad)
    assert f"{bad}, line 2" in refused("evaluate", run, "--data", bad)
    bad.write_text("a O\n\n" * 9)
    refusal = refused("train", "tag", "--data", bad, "--out", tmp_path / "run")
    assert "every one of the 7 words to train on has the tag 'O'" in refusal
    assert not (tmp_path / "run").exists()
    refused("compare", "tag", "--data", bad, "--out", tmp_path / "compared")
    assert not (tmp_path / "compared").exists()
    wrong = refused("train", "tag", "--data", text, "--set", "colum=ner")
    assert "did you mean 'column'" in wrong
    assert "no column 'ner'" in refused("train", "tag", "--data", text, "--set", "column=ner")
    assert "--reads 'html' is unknown" in refused("predict", run, "a", "--reads", "html")
    assert "--writes 'xml' is unknown" in refused("predict", run, "a", "--writes", "xml")
    assert "--count is not for a tagger" in refused("predict", run, "a", "--count", 3)
    assert "`recurra generate` is not for it" in refused("generate", run)
    odd = ("--set", "character_size=7")
    assert "must be even" in refused("train", "tag", "--data", text, *odd)
