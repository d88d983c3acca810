"""Measures against hand-computed values; the task; labels that training does not have."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recurra.data.examples import Examples
from recurra.data.ragged import Ragged
from recurra.data.spelling import Alphabet
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError, DataError
from recurra.models.classifier import RecurrentClassifier
from recurra.models.classifier_ensemble import ClassifierEnsemble
from recurra.tasks.classify.encoding import (
    EncodedExamples,
    EncodedInputs,
    balanced_weights,
    check_training_labels,
    encode,
    encode_inputs,
    scale_of,
)
from recurra.tasks.classify.metrics import (
    calibration_error,
    confusion_matrix,
    f1_scores,
    measure,
    measure_multi_label,
    reliability,
)
from recurra.tasks.classify.prediction import answers, evaluate, log_probabilities, vectors
from recurra.tasks.classify.task import ClassifierTask

# three classes, six examples: right, right, 0→1, right, 2→0, and a class that nobody knows → 1
P = torch.tensor(
    [
        [0.7, 0.2, 0.1],
        [0.5, 0.3, 0.2],
        [0.2, 0.6, 0.2],
        [0.1, 0.8, 0.1],
        [0.9, 0.05, 0.05],
        [0.3, 0.4, 0.3],
    ]
)
TRUTH = torch.tensor([0, 0, 0, 1, 2, -1])


def test_measures_are_those_computed_by_hand():
    found = measure(P.log(), TRUTH)
    assert found["accuracy"] == pytest.approx(3 / 6)
    # class 0: 2 hits, 1 miss, 1 alarm; class 1: 1 hit, 2 alarms; class 2: 1 miss
    assert found["macro_f1"] == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)
    nats = -(math.log(0.7) + math.log(0.5) + math.log(0.2) + math.log(0.8) + math.log(0.05)) / 5
    assert found["log_loss"] == pytest.approx(nats, rel=1e-6)
    assert found["examples"] == 6


def test_reliability_and_its_error_are_those_computed_by_hand():
    bins = reliability(P, TRUTH, bins=2)  # confidences .7 .5 .6 .8 .9 .4
    assert [b.count for b in bins] == [2, 4]
    assert bins[0].accuracy == pytest.approx(1 / 2)
    assert bins[0].confidence == pytest.approx(0.45)
    assert bins[1].accuracy == pytest.approx(2 / 4)
    assert bins[1].confidence == pytest.approx(0.75)
    assert calibration_error(bins) == pytest.approx(2 / 6 * 0.05 + 4 / 6 * 0.25)
    sure = reliability(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert calibration_error(sure) == 0


def test_confusion_and_f1_of_each_class():
    counts = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 0, 1]), 3)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    scores = f1_scores(counts)
    assert scores[:2].tolist() == pytest.approx([0.8, 2 / 3])
    assert scores[2].isnan()


def test_multi_label_measures_are_those_computed_by_hand():
    p = torch.tensor([[0.9, 0.2], [0.6, 0.7], [0.1, 0.4]])
    truth = torch.tensor([[1, 0], [0, 1], [0, 1]])
    found = measure_multi_label(p.log(), truth)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    nats = -math.log(0.9 * 0.8) - math.log(0.4 * 0.7) - math.log(0.9 * 0.4)
    assert found["log_loss"] == pytest.approx(nats / 3, rel=1e-5)


def test_measures_need_an_example_and_one_class_is_measured_too():
    with pytest.raises(DataError, match="no example"):
        measure(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    found = measure(P[:2].log(), torch.tensor([0, 0]))
    assert (found["accuracy"], found["macro_f1"]) == (1, 1)
    unknown = measure(P[:2].log(), torch.tensor([-1, -1]))
    assert (unknown["accuracy"], unknown["log_loss"]) == (0, 0)


def test_labels_that_train_does_not_have_are_counted_and_named():
    tokenizer = Tokenizer.train(["ab"], "char")
    data = Examples(["a", "b", "c", "a"], [("x",), ("new",), ("new",), ()])
    encoded = encode(data, ["x", "y"], tokenizer)
    assert encoded.targets.tolist() == [0, -1, -1, -1]
    assert encoded.unknown_labels == {"new": 2}
    assert encoded.unknown_tokens == 1
    several = encode(data, ["x", "y"], tokenizer, multi_label=True)
    assert several.targets.tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]


def test_one_class_and_wrong_counts_of_labels_cannot_be_learned_from():
    with pytest.raises(DataError, match="needs two classes"):
        check_training_labels([("x",)] * 3, ["x"], multi_label=False, where="a.csv")
    with pytest.raises(DataError, match="training example 2 has 2 labels"):
        check_training_labels([("x",), ("x", "y")], ["x", "y"], multi_label=False, where="a")
    with pytest.raises(DataError, match="no label"):
        check_training_labels([()], [], multi_label=True, where="a")
    check_training_labels([("x",), ("x", "y"), ()], ["x", "y"], multi_label=True, where="a")


def test_a_flat_channel_keeps_its_scale():
    mean, scale = scale_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert (mean.tolist(), scale.tolist()) == ([2, 5], [1, 1])


def test_balanced_weights_make_classes_count_alike():
    targets = torch.tensor([0] * 999 + [1])
    weights = torch.tensor(balanced_weights(targets, 2))
    assert (weights * torch.tensor([999.0, 1.0])).tolist() == pytest.approx([500, 500])


def toy(count=40, seed=0) -> EncodedExamples:
    """Which of tokens 2 and 3 comes first? Pooled means cannot tell; order must be read."""
    generator = torch.Generator().manual_seed(seed)
    sequences, targets = [], []
    for k in range(count):
        fill = torch.randint(4, 9, (int(torch.randint(2, 9, (1,), generator=generator)),))
        pair = torch.tensor([2, 3] if k % 2 else [3, 2])
        at = int(torch.randint(len(fill), (1,), generator=generator))
        sequences.append(torch.cat([fill[:at], pair[:1], fill[at:], pair[1:]]))
        targets.append(k % 2)
    return EncodedExamples(EncodedInputs(Ragged.of(sequences)), torch.tensor(targets))


def build(**options) -> RecurrentClassifier:
    torch.manual_seed(1)
    return RecurrentClassifier(2, vocabulary_size=9, embedding_size=8, hidden_size=12, **options)


@pytest.mark.parametrize("pooling", ["last", "max", "attention"])
def test_it_learns_what_depends_on_order(pooling):
    train, valid = toy(120, 1), toy(60, 2)
    model = build(pooling=pooling)
    task = ClassifierTask(model, {"train": train, "valid": valid}, batch_size=20, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(25):
        for index in range(task.batches_per_epoch()):
            optimizer.zero_grad()
            task.training_step(task.batch(epoch, index), None).loss.backward()
            optimizer.step()
    assert task.evaluate("train")["accuracy"] == 1
    assert task.evaluate("valid")["accuracy"] >= 0.95


def test_batches_depend_on_seed_epoch_and_index_alone():
    one, other = (ClassifierTask(build(), {"train": toy()}, batch_size=7, seed=3) for _ in "ab")
    other.batch(5, 1)
    for x, y in zip(one.batch(2, 3), other.batch(2, 3), strict=True):
        assert x is y is None or torch.equal(torch.as_tensor(x), torch.as_tensor(y))
    assert one.batches_per_epoch() == 6
    assert sum(one.count(one.batch(0, k)) for k in range(6)) == len(toy().inputs.steps.values)


def test_ranks_share_a_batch_and_fill_up_the_last():
    whole = ClassifierTask(build(), {"train": toy(9)}, batch_size=4, seed=3)
    parts = []
    for rank in range(2):
        task = ClassifierTask(build(), {"train": toy(9)}, batch_size=4, seed=3)
        task.shard(rank, 2)
        parts.append(task)
    for index in range(3):
        batches = [task.batch(0, index) for task in parts]
        assert len(batches[0][1]) == len(batches[1][1])
        rows = torch.stack([batch[1] for batch in batches], 1).flatten()
        expected = whole.batch(0, index)[1]
        assert torch.equal(rows[: len(expected)], expected)
    with pytest.raises(ArgumentError, match="multiple of 3"):
        parts[0].shard(0, 3)


def test_training_cuts_long_examples_and_evaluation_does_not():
    task = ClassifierTask(build(), {"train": toy(), "valid": toy()}, batch_size=4, longest=2)
    assert task.batch(0, 0)[0].shape[0] == 2
    task.evaluate("valid")


def test_the_metric_to_choose_by_may_be_named():
    task = ClassifierTask(build(), {"train": toy()}, choose_by="log_loss")
    assert not task.higher_is_better
    with pytest.raises(ArgumentError, match="choose_by='micro_f1'"):
        ClassifierTask(build(), {"train": toy()}, choose_by="micro_f1")
    unknown = EncodedExamples(toy().inputs, -torch.ones(40, dtype=torch.long), {"z": 40})
    with pytest.raises(DataError, match="does not: z"):
        ClassifierTask(build(), {"train": unknown})


def test_prediction_in_batches_is_prediction_one_by_one(monkeypatch):
    from recurra.tasks.classify import prediction

    ragged = Ragged.of([torch.randint(9, (n,)) for n in (5, 0, 12, 1, 7, 7)])
    model, inputs = build(), EncodedInputs(ragged)
    monkeypatch.setattr(prediction, "BATCH_STEPS", 16)
    found, encoded = log_probabilities(model, inputs), vectors(model, inputs)
    model.eval()
    with torch.no_grad():
        for k in range(len(ragged)):
            padded, lengths = ragged.batch([k])
            torch.testing.assert_close(found[k : k + 1], model.log_probabilities(padded, lengths))
            torch.testing.assert_close(encoded[k : k + 1], model.encode(padded, lengths))
    with pytest.raises(DataError, match="no example"):
        log_probabilities(model, EncodedInputs(Ragged.of([])))


def test_an_example_is_answered_by_the_member_that_has_not_seen_it():
    torch.manual_seed(2)
    model = ClassifierEnsemble(3, 2, vocabulary_size=9, embedding_size=8, hidden_size=5)
    examples = replace(toy(10), unseen_by=torch.tensor([2, 0, 0, 2, 0, 2, 2, 0, 0, 0]))  # none of 1
    found = answers(model, examples)
    for k, m in enumerate(examples.unseen_by):
        own = log_probabilities(model.members[m], examples.inputs)
        torch.testing.assert_close(found[k], own[k])
    nats = -found[torch.arange(10), examples.targets].mean()
    assert evaluate(model, examples)["log_loss"] == pytest.approx(float(nats))
    whole = replace(examples, unseen_by=None)
    torch.testing.assert_close(answers(model, whole), log_probabilities(model, whole.inputs))


def test_batches_say_who_does_not_learn_from_them():
    unseen_by = torch.arange(40) % 3 - 1
    train = replace(toy(), unseen_by=unseen_by)
    torch.manual_seed(1)
    model = ClassifierEnsemble(2, 2, vocabulary_size=9, embedding_size=8, hidden_size=5)
    task = ClassifierTask(model, {"train": train}, batch_size=7, seed=3)
    task.shard(0, 1)
    for index in range(task.batches_per_epoch()):
        batch = task.batch(0, index)
        assert torch.equal(batch[4], unseen_by[task.buckets.batch(0, index)])
        loss, _ = model.loss(*batch[:4], batch[4])
        torch.testing.assert_close(task.training_step(batch, None).loss, loss)
        assert not torch.allclose(loss, model.loss(*batch[:4])[0])


def test_a_million_tokens_are_read_in_bounded_memory():
    from recurra.jobs.machine import peak_memory_bytes

    torch.manual_seed(1)
    model = RecurrentClassifier(
        2, vocabulary_size=9, embedding_size=32, hidden_size=32, bidirectional=False
    )
    log_probabilities(model, EncodedInputs(Ragged.of([torch.randint(9, (9_000,))])))
    before = peak_memory_bytes()
    line = Ragged.of([torch.randint(9, (1_000_000,))])
    found = log_probabilities(model, EncodedInputs(line))
    assert found.exp().sum().item() == pytest.approx(1)
    # alone it is under 60 MB; after other tests the allocator holds more. All outputs are 128 MB
    assert peak_memory_bytes() - before < 100e6


def test_spelled_words_are_read_by_their_characters(monkeypatch):
    from recurra.models import classifier

    texts = ["The cat sat", "", "the dogs", "Unheard dogs sat the Cat"]
    tokenizer = Tokenizer.train(texts[:3], "word", lowercase=True)
    alphabet = Alphabet.train(["The", "cat", "sat", "the", "dogs"])
    inputs = encode_inputs(texts, tokenizer, alphabet)
    options = {"character_encoder": "recurrent", "character_size": 4, "affix_size": 3}
    torch.manual_seed(2)
    model = RecurrentClassifier(
        2,
        vocabulary_size=len(tokenizer.vocabulary),
        num_characters=len(alphabet),
        hidden_size=4,
        bidirectional=False,
        **options,
    ).eval()
    together = vectors(model, inputs)
    for k, text in enumerate(texts):
        alone = vectors(model, encode_inputs([text], tokenizer, alphabet))
        torch.testing.assert_close(alone[0], together[k])
    padded, _, spelled = inputs.batch([3])
    read = [tokenizer.vocabulary[i] for i in spelled.ids[padded[:, 0]]]
    assert read == ["<unk>", "dogs", "sat", "the", "cat"]
    of_dogs = spelled.characters[:4, padded[1, 0]]
    assert "".join(alphabet.characters[i] for i in of_dogs) == "dogs"
    monkeypatch.setattr(classifier, "CHUNK_STEPS", 2)
    torch.testing.assert_close(vectors(model, inputs), together)
    cased = vectors(model, encode_inputs(["the cat", "The cat"], tokenizer, alphabet))
    assert not torch.allclose(cased[0], cased[1])  # the same words, not the same letters


def test_rows_of_zeros_and_ones_are_measured_as_several_labels():
    targets = torch.stack([toy().targets, 1 - toy().targets], 1).float()
    examples = EncodedExamples(toy().inputs, targets)
    model = build(multi_label=True)
    found = evaluate(model, examples)
    assert set(found) == {"accuracy", "micro_f1", "macro_f1", "log_loss", "examples"}
    assert ClassifierTask(model, {"train": examples}).primary_metric == "micro_f1"


def test_series_are_encoded_as_they_are():
    series = [np.arange(6, dtype=np.float32).reshape(3, 2), np.zeros((0, 2), np.float32)]
    encoded = encode(Examples(series, [("x",), ("y",)], ("u", "v")), ["x", "y"], None)
    assert encoded.inputs.lengths.tolist() == [3, 0]
    assert encoded.inputs.steps[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    series[0][1, 0] = np.nan
    with pytest.raises(DataError, match="series 0, step 1: NaN"):
        encode(Examples(series, [("x",), ("y",)], ("u", "v")), ["x", "y"], None)
