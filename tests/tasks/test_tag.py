"""The tagging task: conlleval's figures, batches, answers in windows and word by word."""

import numpy as np
import pytest
import torch

from recurra.data.lexicon import Lexicon
from recurra.data.spans import allowed_transitions
from recurra.data.tagged_text import TaggedText
from recurra.errors import ArgumentError, DataError, ShapeError
from recurra.models.tagger import RecurrentTagger
from recurra.tasks.tag import prediction
from recurra.tasks.tag.baseline import MostFrequentTag
from recurra.tasks.tag.metrics import SpanCounts, measure, span_counts
from recurra.tasks.tag.prediction import TagStream, tag_sentences
from recurra.tasks.tag.task import TaggingTask, compare, evaluate

WORDS = ["ab", "ba", "abc", "x", "yy", "longer", "1", "."]


def random_text(sentences: int = 30, seed: int = 0, *, spans: bool = False) -> TaggedText:
    """Each word's tag depends on itself and on the word before it."""
    random = np.random.default_rng(seed)
    words = [
        [str(w) for w in random.choice(WORDS, random.integers(1, 9))] for _ in range(sentences)
    ]
    tags = [
        ["T" + str((len(w) + len(b)) % 3) for b, w in zip(["", *ws], ws, strict=False)]
        for ws in words
    ]
    if spans:
        tags = [["O" if tag == "T0" else f"B-{tag}" for tag in own] for own in tags]
    return TaggedText(words, tags, "toy")


def build(lexicon: Lexicon, **options) -> RecurrentTagger:
    sizes = {"embedding_size": 6, "hidden_size": 7, "character_size": 4}
    table = allowed_transitions(lexicon.tags, lexicon.scheme) if lexicon.scheme else None
    return RecurrentTagger(
        len(lexicon.words), len(lexicon.alphabet), len(lexicon.tags),
        character_embedding_size=5, allowed=table, **{**sizes, **options},
    )  # fmt: skip


def conlleval(gold: str, predicted: str) -> dict[str, SpanCounts]:
    return span_counts([gold.split()], [predicted.split()])


@pytest.mark.parametrize(
    ("gold", "predicted", "right", "found", "expected"),
    [  # worked out by hand with the script's rules
        ("B-X I-X O B-Y", "B-X I-X O B-Y", 2, 2, 2),
        ("B-X I-X O B-Y", "I-X I-X O I-Y", 2, 2, 2),  # I- without B- begins an entity
        ("B-X I-X I-X", "B-X I-X O", 0, 1, 1),  # too short
        ("B-X I-X O", "B-X I-Y O", 0, 2, 1),  # the type changes: two entities
        ("B-X B-X O", "B-X I-X O", 0, 1, 2),  # run together
        ("O O B-X", "O O O", 0, 0, 1),
        ("O O O", "O B-X O", 0, 1, 0),
        ("B-X E-X S-Y", "B-X I-X B-Y", 2, 2, 2),  # schemes may differ
        ("B-X I-X B-X I-X", "B-X I-X I-X I-X", 0, 1, 2),
    ],
)
def test_entities_are_counted_as_by_conlleval(gold, predicted, right, found, expected) -> None:
    assert conlleval(gold, predicted)[""] == SpanCounts(right, found, expected)


def test_figures_by_type_and_of_nothing() -> None:
    counts = conlleval("B-X I-X O B-Y B-Z", "B-X I-X O B-X O")
    assert counts["X"].figures() == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert counts["Y"].figures() == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert counts[""].figures()["f1"] == pytest.approx(0.4)


def test_accuracy_unknown_words_confusion_and_unseen_tags() -> None:
    measured = measure(
        [["A", "B"], [], ["A", "Z"]],
        [["A", "A"], [], ["B", "B"]],
        known_tags=["A", "B"],
        unknown=[False, True, False, True],
    )
    assert measured.figures["accuracy"] == 0.25
    assert measured.figures["unknown_accuracy"] == 0.0
    assert measured.figures["unseen_tags"] == 1
    assert measured.unseen == {"Z": 1}
    assert measured.confusion["A", "B"] == 1
    assert measured.by_type["A"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "expected": 2}
    with pytest.raises(ShapeError, match="words"):
        measure([["A"]], [["A", "B"]], known_tags=[])


def test_gold_tags_of_other_schemes_are_converted() -> None:
    lexicon = Lexicon.train(TaggedText([["a", "b", "c"]], [["I-X", "I-X", "O"]]))
    gold = TaggedText([["a", "b", "c"]], [["B-X", "E-X", "O"]])
    figures = compare(gold, [["I-X", "I-X", "O"]], lexicon).figures
    assert (figures["accuracy"], figures["f1"], figures["unseen_tags"]) == (1.0, 1.0, 0)


@pytest.mark.parametrize("spans", [False, True])
def test_ten_sentences_are_learned_by_heart(spans: bool) -> None:
    text = random_text(10, spans=spans)
    lexicon = Lexicon.train(text)
    model = build(lexicon, crf=spans)
    task = TaggingTask(model, lexicon, {"train": text, "valid": text}, batch_tokens=40)
    assert task.primary_metric == ("f1" if spans else "accuracy")
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for step in range(60):
        optimizer.zero_grad()
        index = divmod(step, task.batches_per_epoch())
        task.training_step(task.batch(*index), None).loss.backward()
        optimizer.step()
    figures = task.evaluate("valid")
    assert tuple(figures) == task.metrics
    assert figures[task.primary_metric] == 1.0


def test_batches_repeat_and_shards_add_up_to_the_whole() -> None:
    text = random_text()
    lexicon = Lexicon.train(text)
    model = build(lexicon, unknown_dropout=0.0)

    def gradients(ranks: int) -> list[list[torch.Tensor]]:
        found = []
        for rank in range(ranks):
            task = TaggingTask(model, lexicon, {"train": text}, batch_tokens=20, seed=2)
            task.shard(rank, ranks)
            model.zero_grad()
            batch = task.batch(1, 0)
            assert task.count(batch) == int(batch[2])
            task.training_step(batch, None).loss.backward()
            found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        return found

    (whole,), parts = gradients(1), gradients(9)  # some of the nine have no sentence
    for own, *others in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.stack(others).mean(0), own)


def test_training_needs_a_word() -> None:
    lexicon = Lexicon.train(random_text())
    nothing = {"train": TaggedText([[]], [[]], "toy")}
    with pytest.raises(DataError, match="toy: no word to train on"):
        TaggingTask(build(lexicon), lexicon, nothing, batch_tokens=20)


@pytest.mark.parametrize("crf", [False, True])
def test_answers_do_not_depend_on_company(crf: bool) -> None:
    text = random_text(spans=True)
    lexicon = Lexicon.train(text)
    model = build(lexicon, crf=crf)
    inputs = [[], *text.words, []]
    together = list(tag_sentences(model, lexicon, inputs))
    assert [answer.words for answer in together] == inputs
    assert together[0].tags == together[0].confidence == []
    for words, answer in zip(inputs, together, strict=True):
        (alone,) = tag_sentences(model, lexicon, [words])
        assert alone.tags == answer.tags
        assert alone.confidence == pytest.approx(answer.confidence, abs=1e-5)
        assert all(0 < p <= 1 + 1e-6 for p in answer.confidence)
    (first, *_) = tag_sentences(model, lexicon, text.words, confidence=False)
    assert (first.tags, first.confidence) == (together[1].tags, [])
    assert list(tag_sentences(model, lexicon, [])) == []


def test_long_lines_are_answered_in_windows(monkeypatch) -> None:
    monkeypatch.setattr(prediction, "LONGEST", 40)
    monkeypatch.setattr(prediction, "CONTEXT", 15)
    monkeypatch.setattr(prediction, "BLOCK", 100)
    text = random_text(60)
    lexicon = Lexicon.train(text)
    model = build(lexicon)
    line = [word for words in text.words for word in words]
    encoded = prediction.EncodedSentences([line], lexicon, longest=None)
    whole, _ = prediction.run(model, encoded)
    short, found, last = tag_sentences(model, lexicon, [["ab"], line, ["x", "yy"]])
    assert found.words == line
    assert found.tags == [lexicon.tags[i] for i in whole]  # context of 15 words is enough here
    assert (len(short.tags), len(last.tags)) == (1, 2)


def test_a_stream_gives_the_answers_of_the_batch() -> None:
    text = random_text(8)
    lexicon = Lexicon.train(text)
    model = build(lexicon, bidirectional=False, num_layers=2, cell="gru")
    stream = TagStream(model, lexicon, streams=2)
    for words in (["ab", "x", "new", "longer"], ["1", "yy", "ba", "."]):
        (answer,) = tag_sentences(model, lexicon, [words])
        stream.reset()
        found = [stream.step([word, "x"])[0] for word in words]
        assert [tag for tag, _ in found] == answer.tags
        assert [p for _, p in found] == pytest.approx(answer.confidence, abs=1e-6)
    with pytest.raises(ArgumentError, match="1 words for 2 streams"):
        stream.step(["x"])
    with pytest.raises(ArgumentError, match="bidirectional=false"):
        TagStream(build(lexicon), lexicon)


def test_unseen_tags_at_evaluation_are_counted_and_named() -> None:
    lexicon = Lexicon.train(random_text())
    found = evaluate(build(lexicon), lexicon, TaggedText([["ab", "x"]], [["NEW", "NEW"]]))
    assert found.unseen == {"NEW": 2}
    assert found.figures["accuracy"] == 0.0


def test_the_baseline_knows_words_alone() -> None:
    text = TaggedText([["a", "a", "a", "b"], ["c"]], [["X", "Y", "Y", "Z"], ["Z"]])
    assert MostFrequentTag(text).predict([["a", "b", "new"], []]) == [["Y", "Z", "Z"], []]
