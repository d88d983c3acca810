"""Probes ask what stood at the beginning; cells are compared at equal size; one can be learned."""

import pytest
import torch

from recurra.cells import CELLS, GRU_CELL, LSTM_CELL, find_cell
from recurra.errors import ArgumentError
from recurra.insight import equal_hidden_size, measure_recall, structure
from recurra.insight.probe_training import ProbeNetwork, Schedule, accuracy, loss_of, train
from recurra.insight.probes import NAMES, Adding, Copying, Recall, Sentence


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("distance", [0, 1, 5, 23])
def test_a_sentence_asks_for_the_other_of_two_names(distance):
    probe = Sentence()
    inputs, target = probe.draw(40, distance, generator())
    for row in range(40):
        words = probe.text(inputs[:, row]).split()
        named = [word for word in words if word in NAMES]
        first, second, asker = named
        assert first != second
        answer = probe.words()[int(target[0, row])]
        assert {asker, answer} == {first, second}
        assert words[1:6] == ["walked", "into", "the", "room", "."]
        assert words[7:11] == ["walked", "in", "too", "."]
        assert words[-4:] == [asker, "said", "hi", "to"]
        assert len(words) == 11 + distance + 4
    assert len({int(t) for t in target[0]}) > 4


def test_copying_and_adding_have_their_answers():
    inputs, targets = Copying().draw(9, 4, generator())
    assert torch.equal(inputs[:3], targets)
    assert (inputs[3:7] == 4).all()
    assert (inputs[7] == 5).all()
    assert len(inputs) == 3 + 4 + 3
    numbers, target = Adding().draw(50, 20, generator())
    marks = numbers[..., 1]
    assert (marks.sum(0) == 2).all()
    assert (marks[:2].sum(0) >= 1).all()  # the first, early
    assert (marks[10:] == 0).all()  # the second, in the first half
    torch.testing.assert_close((numbers[..., 0] * marks).sum(0), target[0])


def test_always_saying_one_is_right_as_often_as_chance_says():
    _, target = Adding().draw(20_000, 12, generator())
    share = float(((target - 1).abs() <= 0.08).float().mean())
    assert share == pytest.approx(Adding().chance(12), abs=0.01)


def test_the_loss_of_a_number_is_squared_error_and_of_a_choice_cross_entropy():
    answers, targets = torch.randn(2, 3, 4), torch.randint(4, (2, 3))
    log_p = answers.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(loss_of(answers, targets), -log_p.mean(0))
    numbers, wanted = torch.randn(1, 3, 1), torch.randn(1, 3)
    torch.testing.assert_close(loss_of(numbers, wanted), (numbers[0, :, 0] - wanted[0]) ** 2)


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_compared_at_equal_weights(name):
    hidden = equal_hidden_size(find_cell(name), 16, 6144)
    found = structure(find_cell(name), 16, hidden).matrix_weights
    assert found == pytest.approx(6144, rel=0.03)


def test_a_gru_learns_to_recall_and_knows_nothing_before():
    torch.manual_seed(0)
    network = ProbeNetwork(GRU_CELL, Recall(), 24)
    before = accuracy(network, Recall(), [4], seed=9)[0]
    losses = train(network, Recall(), Schedule(steps=250, distances=(1, 8)), seed=0)
    after = accuracy(network, Recall(), [4], seed=9)[0]
    assert before < 0.3
    assert after > 0.95
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


def test_equal_seeds_train_equal_networks():
    schedule = Schedule(steps=3, rows=4, distances=(1, 3))
    options = {"weights": 400, "seeds": 2, "rows": 16}
    first, again = (
        measure_recall(LSTM_CELL, Recall(), [2, 6], schedule, forget_bias=1.0, **options)
        for _ in range(2)
    )
    assert first == again
    assert first.means == tuple(sum(c) / 2 for c in zip(*first.scores, strict=True))


def test_the_command_measures_and_draws(inspect):
    options = ("--cells", "rnn,lstm", "--steps", 2, "--seeds", 2)
    folder, figures = inspect("memory", *options)
    assert list(figures["probes"]) == ["sentence", "copying", "adding"]
    for entry in figures["probes"].values():
        assert list(entry["cells"]) == ["rnn", "lstm"]
        for cell in entry["cells"].values():
            assert len(cell["scores"]) == 2
            assert len(cell["means"]) == len(entry["chance"]) == len(cell["distances"])
            assert all(0 <= mean <= 1 for mean in cell["means"])
    assert "said hi to" in (folder / "report.html").read_text()


def test_bad_requests_are_refused(refused):
    assert "sentence, copying, adding" in refused("memory", "--probes", "sentense")
    assert "must be 1 or more" in refused("memory", "--seeds", 0)
    assert "did you mean" in refused("memory", "--cells", "gruu")
    with pytest.raises(ArgumentError, match="4 steps or more"):
        Adding().draw(1, 3, generator())
    with pytest.raises(ArgumentError, match="distances"):
        Schedule(distances=(3, 2))
