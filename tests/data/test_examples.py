"""Held-out parts: stratified, by groups, the same for the same seed; ragged batches; names."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data import language_names
from recurra.data.examples import Examples, concatenate, deal, hold_out, split_examples
from recurra.data.length_batches import Buckets, by_length
from recurra.data.ragged import Ragged
from recurra.errors import DataError, ShapeError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), min_size=30, max_size=120))
def test_equal_inputs_never_stand_on_both_sides(pairs):
    data = Examples([f"text {t}" for t, _ in pairs], [(f"class {c}",) for _, c in pairs])
    try:
        splits = split_examples(data, seed=3)
    except DataError:
        return
    parts = [splits.train, splits.valid, splits.test]
    found = Counter(pair for p in parts for pair in zip(p.inputs, p.labels, strict=True))
    assert found == Counter(zip(data.inputs, data.labels, strict=True))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one].inputs) & set(parts[other].inputs)


def test_a_tenth_of_each_class_is_held_out_and_the_seed_decides_which():
    data = Examples([str(i) for i in range(300)], [("a",)] * 200 + [("b",)] * 100)
    _, out = hold_out(data, seed=1)
    assert Counter(out.labels) == {("a",): 20, ("b",): 10}
    assert hold_out(data, seed=1)[1] == out
    assert hold_out(data, seed=2)[1] != out
    splits = split_examples(data)
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [240, 30, 30]
    without = split_examples(data, test=False)
    assert (len(without.train), len(without.test)) == (270, 0)


def test_groups_of_the_data_stay_together_and_series_count_as_equal_by_value():
    groups = [str(i // 2) for i in range(40)]
    data = Examples([str(i) for i in range(40)], [("a",)] * 40, groups=groups)
    kept, out = hold_out(data)
    assert not set(kept.groups) & set(out.groups)
    series = [np.full((3, 1), i // 2, np.float32) for i in range(40)]
    kept, out = hold_out(Examples(series, [("a",)] * 40, ("u",)))
    assert not {x[0, 0] for x in kept.inputs} & {x[0, 0] for x in out.inputs}


def test_examples_are_dealt_by_groups_and_each_class_evenly():
    texts = [f"text {i % 30}" for i in range(40)]  # ten stand there twice
    data = Examples(texts, [("a",) if i % 30 < 20 else ("b",) for i in range(40)])
    parts = deal(data, 4)
    of_text = {}
    for text, part in zip(texts, parts, strict=True):
        assert of_text.setdefault(text, part) == part
    for label, most, least in (("a", 5, 5), ("b", 3, 2)):
        found = {
            t: of_text[t] for t, (own,) in zip(texts, data.labels, strict=True) if own == label
        }
        counts = Counter(found.values())
        assert (max(counts.values()), min(counts.values()), len(counts)) == (most, least, 4)
    grouped = Examples(texts, data.labels, groups=["one", "other"] * 20)
    assert deal(grouped, 4) == [0, 1] * 20


def test_leaves_stay_with_their_examples_when_parts_are_joined():
    one, other = (Examples([x], [(x,)], leaves=[f"{x}:1"]) for x in "xy")
    assert concatenate([one, other]).leaves == ["x:1", "y:1"]
    assert not concatenate([Examples(["a"], [("x",)])] * 2).leaves


def test_too_few_examples_and_mixed_kinds_are_refused():
    with pytest.raises(DataError, match="too few to hold out"):
        hold_out(Examples(["a", "b"], [("x",), ("y",)]))
    series = Examples([np.zeros((1, 1), np.float32)], [("x",)], ("u",))
    with pytest.raises(DataError, match="different kinds"):
        concatenate([Examples(["a"], [("x",)]), series])
    with pytest.raises(DataError, match="1 inputs have 2 labels"):
        Examples(["a"], [("x",), ("y",)])


def test_classes_are_in_the_order_of_their_numbers_or_letters():
    assert Examples(["a"] * 4, [("10",), ("9",), ("nan",), ("b",)]).classes() == [
        "9",
        "10",
        "b",
        "nan",
    ]


def test_the_default_names_are_the_same_twice_and_each_has_one_language():
    splits, again = language_names.load(), language_names.load()
    assert splits.test.fingerprint() == again.test.fingerprint()
    parts = [splits.train, splits.valid, splits.test]
    names = [name.casefold() for part in parts for name in part.inputs]
    assert len(names) == sum(map(len, parts)) > 10_000
    languages = {}
    for part in parts:
        for name, labels in zip(part.inputs, part.labels, strict=True):
            assert languages.setdefault(name.casefold(), labels) == labels
    assert not set(splits.train.groups) & set(splits.test.groups)
    assert min(Counter(splits.test.labels).values()) > 20
    assert len(splits.train.classes()) == 20


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 7))
def test_batches_hold_every_sequence_once(lengths, rows):
    ragged = Ragged.of([torch.randint(9, (n,)) for n in lengths])
    buckets = Buckets(ragged.lengths, rows, seed=5)
    for epoch in (0, 3):
        found = sorted(i for k in range(len(buckets)) for i in buckets.batch(epoch, k))
        assert found == list(range(len(lengths)))
    assert Buckets(ragged.lengths, rows, seed=5).batch(3, 0) == buckets.batch(3, 0)
    read = by_length(ragged.lengths.numpy(), 12, rows=rows)
    assert sorted(i for batch in read for i in batch) == list(range(len(lengths)))
    for batch in read:
        padded, own = ragged.batch(batch)
        assert padded.numel() <= 12 or len(batch) == 1
        assert len(batch) <= rows
        for k, i in enumerate(batch):
            assert torch.equal(padded[: own[k], k], ragged[i])
            assert not padded[own[k] :, k].any()


def test_batches_are_not_of_one_class_where_classes_differ_in_length():
    lengths = torch.tensor([7 if k % 20 == 0 else 6 for k in range(500)])
    buckets = Buckets(lengths, 16)
    pure = [set(lengths[buckets.batch(0, k)].tolist()) == {7} for k in range(len(buckets))]
    assert not any(pure)


def test_batches_are_cut_and_vectors_stay_whole():
    ragged = Ragged.of([torch.ones(5, 2), torch.ones(0, 2)])
    padded, lengths = ragged.batch([1, 0], longest=3)
    assert padded.shape == (3, 2, 2)
    assert lengths.tolist() == [0, 3]
    with pytest.raises(ShapeError, match="add up to 3"):
        Ragged(torch.zeros(2), torch.tensor([3]))
