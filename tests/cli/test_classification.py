"""The verbs on small classification runs, from training to use; and bad inputs."""

import json
import random
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import recurra, refused

import recurra as package
from recurra.data.examples import Examples, ExampleSplits
from recurra.errors import ArgumentError, DataError, ShapeError
from recurra.jobs.classify import material, training
from recurra.jobs.classify.baselines import FittedNgrams, fit_ngrams
from recurra.jobs.classify.config import ExampleOptions
from recurra.jobs.classify.material import read_splits
from recurra.tasks.classify.encoding import encode_inputs
from recurra.tasks.classify.prediction import log_probabilities

SMALL = [
    *("--set", "hidden_size=12", "--set", "embedding_size=8", "--set", "batch_size=16"),
    *("--set", "warmup_steps=5", "--set", "learning_rate=0.03", "--set", "dropout=0.1"),
    *("--set", "input_dropout=0.1"),
]


def answered(*arguments: object, stdin: str | None = None):
    result = recurra(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write_moods(path: Path, count: int = 120) -> Path:
    """Texts of two moods, told by one word of each."""
    source = random.Random(1)
    rows = ["mood,words"]
    for k in range(count):
        words = source.choices(["the", "day", "was", "and", "rain", "sun"], k=source.randint(2, 7))
        words[source.randrange(len(words))] = ("awful", "lovely")[k % 2]
        rows.append(f"{('sad', 'glad')[k % 2]},{' '.join(words)} {k}")
    path.write_text("\n".join(rows) + "\n")
    return path


def write_waves(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Series of two channels: slow waves and fast ones, of unequal length."""
    source = np.random.default_rng(seed)
    lines = ["@classLabel true slow fast", "@data"]
    for k in range(count):
        t = np.arange(source.integers(6, 14)) * (0.2, 1.6)[k % 2] + source.random()
        channels = [",".join(f"{v:.3f}" for v in f(t)) for f in (np.sin, np.cos)]
        lines.append(":".join([*channels, ("slow", "fast")[k % 2]]))
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = ("--set", "text=words", "--set", "label=mood")


@pytest.fixture(scope="module")
def moods(tmp_path_factory) -> Path:
    return write_moods(tmp_path_factory.mktemp("moods") / "moods.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, moods) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "moods"
    options = ("--data", moods, *COLUMNS, "--out", folder, "--max-epochs", 12, *SMALL)
    return folder, answered("train", "classify", *options)


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


def test_training_leaves_a_run_folder_with_figures_and_baselines(trained):
    folder, metrics = trained
    assert metrics["test"]["accuracy"] == 1
    assert set(metrics["baselines"]) == {"most_frequent_class", "bag_of_word_ngrams_2"}
    assert metrics["baselines"]["most_frequent_class"]["test"]["accuracy"] == 0.5
    assert metrics["baselines"]["bag_of_word_ngrams_2"]["test"]["accuracy"] == 1
    files = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.yaml", "metrics.json", "tokenizer.json"} <= files
    page = (folder / "report.html").read_text()
    for title in ("Learning", "Confusion", "Calibration", "By class", "What it says"):
        assert f"<h2>{title}</h2>" in page
    assert np.sum(metrics["confusion"]) == metrics["test"]["examples"] == 12


def test_the_test_split_is_found_again_and_other_data_may_be_given(trained, tmp_path):
    folder, metrics = trained
    assert answered("evaluate", folder) == metrics["test"]
    other = tmp_path / "other.csv"
    other.write_text("mood,words\nsad,an awful day\nodd,rain\nodd,\n")
    found = answered("evaluate", folder, "--data", other)
    assert found["examples"] == 3
    assert found["unknown_labels"] == {"odd": 2}
    assert found["accuracy"] == pytest.approx(1 / 3)
    shown = recurra("evaluate", folder, "--data", other).stdout
    assert "unknown labels odd" in shown


def test_predictions_have_probabilities_and_vectors(run, tmp_path):
    found = answered("predict", run, "a lovely day", "awful", "")
    assert [record["label"] for record in found[:2]] == ["glad", "sad"]
    for record in found:
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    file = tmp_path / "inputs.txt"
    file.write_text("a lovely day\nawful\n")
    vectors = answered("predict", run, "--file", file, "--encode")
    assert [len(record["vector"]) for record in vectors] == [24, 24]
    plain = recurra("predict", run, "--file", file, "--encode").stdout.split("\n")[:2]
    assert [len(line.split()) for line in plain] == [24, 24]
    table = recurra("predict", run, "a lovely day").stdout
    assert "glad" in table
    assert answered("predict", run, "-", stdin="awful\n")[0]["label"] == "sad"


def test_the_model_in_python_is_the_one_of_the_folder(run, moods, tmp_path):
    model = package.load(run)
    assert isinstance(model, package.Classifier)
    texts = ["lovely sun", "", "awful"]
    answers = model.predict(texts)
    assert [a.label for a in answers][::2] == ["glad", "sad"]
    assert model.predict([]) == []
    assert model.encode([]).shape == (0, 24)
    model.save(tmp_path / "copy")
    again = package.load(tmp_path / "copy")
    assert torch.equal(again.encode(texts), model.encode(texts))
    assert (tmp_path / "copy" / "log.csv").exists()
    with pytest.raises(ArgumentError, match="input 1 is a int"):
        model.predict(["a", 3])
    with pytest.raises(ArgumentError, match="bidirectional=False"):
        next(model.stream("lovely sun"))
    series = Examples([np.zeros((2, 1), np.float32)], [("sad",)], ("u",))
    with pytest.raises(DataError, match="the model reads texts"):
        model.evaluate(series)


def test_the_example_finds_the_lines_nearest_to_a_query(run, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("the awful day\nlovely sun\nrain and day\n")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "nearest_sentences.py"))
    example["main"]([str(run), str(lines), "lovely sun"])
    query, *found = capsys.readouterr().out.strip().split("\n")
    assert query == "lovely sun"
    assert found[0] == "  1.000  lovely sun"
    cosines = [float(line.split()[0]) for line in found]
    assert len(found) == 3
    assert cosines == sorted(cosines, reverse=True)


def test_a_run_whose_data_changed_is_measured_on_other_data_only(tmp_path):
    moods = write_moods(tmp_path / "moods.csv", 40)
    folder = tmp_path / "run"
    options = ("--data", moods, *COLUMNS, "--out", folder, "--max-epochs", 1, *SMALL)
    answered("train", "classify", *options, "--set", "baselines=false")
    write_moods(moods, 44)
    assert "the data of the run has changed" in refused("evaluate", folder)
    assert answered("evaluate", folder, "--data", moods)["examples"] == 44


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("waves")
    options = ("--data", write_waves(folder / "train.ts"), "--test")
    options = (*options, write_waves(folder / "test.ts", seed=1), "--no-bidirectional")
    found = answered(
        "train", "classify", *options, "--out", folder / "run", "--max-epochs", 20, *SMALL
    )
    return folder, found


def test_series_are_classified_too(waves):
    folder, metrics = waves
    assert metrics["test"]["accuracy"] >= 0.95
    assert set(metrics["baselines"]) == {"most_frequent_class", "channel_statistics"}
    lines = (folder / "test.ts").read_text().split("\n")[2:6]
    found = answered("predict", folder / "run", "--file", folder / "test.ts")
    assert len(found) == 40
    assert [record["label"] for record in found[:4]] == [line.split(":")[-1] for line in lines]
    assert "expected 2 channels" in refused("predict", folder / "run", "1,2")
    assert "expected numbers" in refused("predict", folder / "run", "1,2:3,x")
    bad = folder / "bad.ts"
    bad.write_text("@data\n\n1,2:3,4\n1,2:3\n")
    assert "line 4: expected 2 channels" in refused("predict", folder / "run", "--file", bad)


def test_a_stream_ends_with_the_answer_of_the_whole(waves):
    model = package.load(waves[0] / "run")
    series = np.random.default_rng(2).normal(size=(9, 2)).astype(np.float32)
    answers = list(model.stream(series))
    assert len(answers) == 9
    whole = model.predict([series, series[:4]])
    for streamed, expected in ((answers[-1], whole[0]), (answers[3], whole[1])):
        assert streamed.label == expected.label
        assert streamed.probability == pytest.approx(expected.probability, rel=1e-4)
    with pytest.raises(ShapeError, match=r"shape \(9,\)"):
        model.predict([series[:, 0]])


def test_several_labels_at_once(tmp_path):
    source, rows = random.Random(3), []
    for k in range(150):
        tones = [t for t in ("loud", "wet", "hot") if source.random() < 0.5]
        words = source.sample([*tones, "and", "so", f"n{k}"], k=len(tones) + 3)
        rows.append(json.dumps({"text": " ".join(words), "label": tones}))
    data = tmp_path / "tones.jsonl"
    data.write_text("\n".join(rows))
    options = ("--data", data, "--out", tmp_path / "run", "--max-epochs", 15, *SMALL)
    several = ("--set", "multi_label=true", "--set", "mix_ngrams=true")
    found = answered("train", "classify", *options, *several)
    assert found["network_alone"]["test"]["micro_f1"] > 0.95
    assert found["test"]["micro_f1"] > 0.95
    assert found["baselines"]["bag_of_word_ngrams_2"]["test"]["micro_f1"] > 0.8
    records = answered("predict", tmp_path / "run", "loud and hot", "so")
    assert set(records[0]["label"].split(",")) == {"loud", "hot"}
    assert records[1]["label"] == ""


def test_rare_classes_learn_by_weight(tmp_path):
    source = random.Random(4)
    rows = ["text,label"]
    for k in range(500):
        is_rare = k % 20 == 0
        words = source.choices("abcdef", k=5) + (["z"] if is_rare else [])
        source.shuffle(words)
        rows.append(f"{' '.join(words)} {k},{'rare' if is_rare else 'common'}")
    data = tmp_path / "rare.csv"
    data.write_text("\n".join(rows) + "\n")
    options = ("--data", data, "--max-epochs", 8, *SMALL, "--set", "choose_by=macro_f1")
    options = (*options, "--set", "minimum_count=2", "--set", "baselines=false")
    found = answered(
        "train", "classify", *options, "--out", tmp_path / "a", "--set", "class_weights=balanced"
    )
    assert found["test"]["macro_f1"] == 1
    message = refused(
        "train", "classify", *options, "--out", tmp_path / "b", "--set", "class_weights={odd: 2}"
    )
    assert "there is no label 'odd'; there are: common, rare" in message


def test_compare_puts_cells_and_directions_side_by_side(moods, tmp_path):
    options = ("--data", moods, *COLUMNS, "--out", tmp_path / "c", "--max-epochs", 2, *SMALL)
    found = answered(
        "compare", "classify", *options, "--cells", "rnn,gru", "--set", "tokenizer=word"
    )
    assert set(found["models"]) == {
        *("rnn", "rnn_bidirectional", "gru", "gru_bidirectional"),
        *("most_frequent_class", "bag_of_word_ngrams_2"),
    }
    for name in ("comparison.png", "comparison.json", "report.html", "gru/metrics.json"):
        assert (tmp_path / "c" / name).exists()


def test_what_cannot_be_learned_from_is_refused_before_training(tmp_path):
    def train(content: str, *options: str) -> str:
        data = tmp_path / "a.csv"
        data.write_text(content)
        return refused("train", "classify", "--data", data, "--out", tmp_path / "run", *options)

    one = "text,label\n" + "".join(f"t{k},x\n" for k in range(30))
    assert "all 24 training examples have the label 'x'" in train(one)
    assert "too few to hold out" in train("text,label\na,x\nb,y\n")
    assert "no column 'text'" in train("body,label\na,x\n")
    assert not (tmp_path / "run").exists()  # so that the mended command can be given again
    assert "--valid and --test need --data" in refused(
        "train", "classify", "--test", tmp_path / "a.csv", "--out", tmp_path / "other"
    )


def test_options_of_other_tasks_are_refused(run):
    assert "--count is not for a classifier" in refused("predict", run, "a", "--count", 3)
    assert "--dynamic is for language models" in refused("evaluate", run, "--dynamic")
    assert "unknown key 'poling'; did you mean 'pooling'?" in refused(
        "train", "classify", "--set", "poling=max"
    )


def test_words_are_read_by_their_characters_from_training_to_streams(moods, tmp_path):
    options = ("--data", moods, *COLUMNS, *SMALL, "--max-epochs", 6, "--no-bidirectional")
    spelled = ("--set", "affix_size=8", "--set", "character_encoder=convolutional")
    answered("train", "classify", *options, *spelled, "--out", tmp_path / "run")
    model = package.load(tmp_path / "run")
    assert model.alphabet is not None
    text = "a Lovelyish day"  # no word of training's
    found = model.predict(["the lovely day", "the awful day"])
    assert [answer.label for answer in found] == ["glad", "sad"]
    *_, last = model.stream(text)
    assert last.probabilities == pytest.approx(model.predict([text])[0].probabilities, abs=1e-6)
    assert not torch.equal(model.encode(["lovelyish"]), model.encode(["awfulish"]))
    refusal = refused("train", "classify", *options, *spelled, "--set", "tokenizer=char")
    assert "affix_size are of words, but tokenizer=char" in refusal


def test_networks_answer_together_with_ngrams_from_training_to_streams(moods, waves, tmp_path):
    options = ("--data", moods, *COLUMNS, *SMALL, "--max-epochs", 3, "--no-bidirectional")
    mixing = ("--set", "mix_ngrams=true", "--set", "members=2")
    folder = tmp_path / "run"
    found = answered("train", "classify", *options, *mixing, "--out", folder)
    assert found["description"].endswith(", mean of 2, mixed with n-grams")
    rivals = found["network_alone"], found["baselines"]["bag_of_word_ngrams_2"]
    best = min(rival["valid"]["log_loss"] for rival in rivals)
    assert found["valid"]["log_loss"] <= best + 1e-6
    assert answered("evaluate", folder)["log_loss"] == pytest.approx(found["test"]["log_loss"])

    model = package.load(folder)
    assert model.parameters() == found["parameters"]
    assert round(model.mixture.weight, 4) == found["network_weight"]
    model.mixture = replace(model.mixture, weight=0.4)  # either alone may be the best on so little
    text = "the awful day was awful"
    inputs = encode_inputs([text], model.tokenizer)
    own = log_probabilities(model.network, inputs).exp()
    theirs = model.mixture.ngrams.log_probabilities([text.split()]).exp()
    expected = 0.4 * own + 0.6 * theirs
    found = model.predict([text])[0].probabilities
    assert [found[label] for label in model.classes] == pytest.approx(expected[0].tolist())
    for k, answer in enumerate(model.stream(text), start=1):
        prefix = model.predict([" ".join(text.split()[:k])])[0]
        assert answer.probabilities == pytest.approx(prefix.probabilities, abs=1e-6)

    (folder / "ngrams.safetensors").unlink()
    assert "ngrams.safetensors is missing" in refused("predict", folder, text)
    series = ("--data", waves[0] / "train.ts", "--test", waves[0] / "test.ts")
    assert "mix_ngrams is of texts" in refused("train", "classify", *series, *mixing)


@pytest.fixture
def committee(moods, monkeypatch):
    """Trains two networks that share valid, dealt by turns, and n-grams beside them, for one epoch;
    returns the model and its figures, and what the n-grams say on valid."""
    splits = read_splits(ExampleOptions(data=(str(moods),), text="words", label="mood"))
    monkeypatch.setattr(material, "deal", lambda examples, parts: [0, 1] * (len(examples) // 2))
    fitted: list[FittedNgrams] = []

    def kept(*arguments):
        fitted.append(fit_ngrams(*arguments))
        return fitted[-1]

    monkeypatch.setattr(training, "fit_ngrams", kept)

    def train(relabelled: int | None = None):
        labels = [*splits.valid.labels]
        if relabelled is not None:
            labels[relabelled] = ("glad",) if labels[relabelled] == ("sad",) else ("sad",)
        options = {"members": 2, "share_valid": True, "mix_ngrams": True, "max_epochs": 1}
        model = package.Classifier.train(
            replace(splits, valid=replace(splits.valid, labels=labels)),
            **{
                "hidden_size": 12,
                "batch_size": 16,
                "warmup_steps": 5,
                "penalties": (0.3,),
                **options,
            },
        )
        return model, fitted[-1].answers["valid"]

    return train


def test_what_is_shared_of_valid_is_learned_by_all_but_the_one_that_answers(committee):
    (model, ngrams), (other, other_ngrams) = committee(), committee(relabelled=1)
    for m, is_equal in ((0, False), (1, True)):
        pairs = zip(*(x.network.members[m].parameters() for x in (model, other)), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == is_equal
    assert torch.equal(ngrams[1::2], other_ngrams[1::2])
    assert not torch.allclose(ngrams[::2], other_ngrams[::2], atol=1e-4)

    valid, test = model.splits.valid, model.splits.test
    inputs = encode_inputs(valid.inputs, model.tokenizer)
    own = torch.stack([log_probabilities(member, inputs) for member in model.network.members])
    alone = own[torch.arange(len(valid)) % 2, torch.arange(len(valid))]
    targets = torch.tensor([model.classes.index(label) for (label,) in valid.labels])
    for name, log_p in (("alone", alone), ("mixed", model.mixture.mixed_with(alone, ngrams))):
        nats = -log_p[torch.arange(len(valid)), targets].mean()
        figures = model.metrics if name == "mixed" else model.metrics["network_alone"]
        assert figures["valid"]["log_loss"] == pytest.approx(float(nats), abs=1e-6)
    assert model.metrics["test"]["accuracy"] == model.evaluate(test)["accuracy"]
    facts = model.metrics["data"]
    assert facts["train_examples"] == len(model.splits.train) + facts["valid_examples"]


def test_sharing_valid_needs_several_members(moods, waves, tmp_path):
    options = ("--data", moods, *COLUMNS, *SMALL, "--set", "share_valid=true")
    assert "share_valid=true needs members of 2 or more" in refused("train", "classify", *options)
    series = ("--data", waves[0] / "train.ts", *SMALL, "--set", "members=2", "--max-epochs", 4)
    folder = tmp_path / "run"
    found = answered("train", "classify", *series, "--set", "share_valid=true", "--out", folder)
    assert (
        found["data"]["train_examples"]
        > answered("train", "classify", *series)["data"]["train_examples"]
    )
    assert answered("evaluate", folder)["accuracy"] == pytest.approx(found["test"]["accuracy"])
    page = (folder / "report.html").read_text()
    assert "did not learn from it" in page
    again = recurra("train", "classify", "--resume", folder, "--max-epochs", 5, "--json")
    assert json.loads(again.stdout)["data"]["valid_shared_by"] == 2


def test_labels_in_a_hierarchy_are_learned_to_their_leaves_and_answered_by_class(tmp_path):
    source, rows = random.Random(6), ["text,label"]
    kinds = ("NUM:date", "NUM:count", "HUM", "LOC:city", "LOC:state")
    for k in range(200):
        kind = kinds[k % 5]
        words = source.choices(["the", "day", "was", "and"], k=source.randint(2, 6))
        rows.append(f"{' '.join([*words, kind.replace(':', '')])} {k},{kind}")
    data, folder = tmp_path / "questions.csv", tmp_path / "run"
    data.write_text("\n".join(rows) + "\n")
    options = ("--data", data, *SMALL, "--max-epochs", 12, "--set", "hierarchy_separator=':'")
    found = answered("train", "classify", *options, "--out", folder, "--set", "mix_ngrams=true")
    assert found["classes"] == ["HUM", "LOC", "NUM"]
    assert found["data"]["leaves"] == 5
    assert found["network_alone"]["test"]["accuracy"] > 0.9
    assert answered("evaluate", folder, "--data", data)["accuracy"] > 0.9
    (answer,) = answered("predict", folder, "the day LOCcity")
    assert answer["label"] == "LOC"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert package.load(folder).network.linear.out_features == 5
    several = refused("train", "classify", *options, "--set", "multi_label=true")
    assert "hierarchy_separator is of one label each" in several


def test_a_leaf_of_two_classes_is_refused():
    examples = Examples(list("abcd"), [("x",), ("y",)] * 2, leaves=["l", "l", "m", "n"])
    with pytest.raises(DataError, match="leaf 'l' is in the classes 'x' and 'y'"):
        package.Classifier.train(ExampleSplits(examples, examples, examples), max_epochs=1)
    with pytest.raises(DataError, match="4 labels have 1 leaves"):
        Examples(list("abcd"), [("x",), ("y",)] * 2, leaves=["l"])
