"""The mean of several classifiers against its members one by one."""

import pytest
import torch
from torch.testing import assert_close

from recurra.errors import ArgumentError
from recurra.models.classifier_ensemble import ClassifierEnsemble

TOKENS, LENGTHS = torch.arange(18).view(6, 3) % 7, torch.tensor([6, 0, 3])


@pytest.fixture
def model() -> ClassifierEnsemble:
    torch.manual_seed(1)
    options = {"vocabulary_size": 7, "hidden_size": 4, "pooling": "attention"}
    return ClassifierEnsemble(3, 2, bidirectional=False, **options).eval()


def test_answers_and_vectors_are_those_of_the_members(model):
    p = [member.log_probabilities(TOKENS, LENGTHS).exp() for member in model.members]
    assert not torch.allclose(p[0], p[1])  # they do not start alike
    assert_close(model.log_probabilities(TOKENS, LENGTHS).exp(), sum(p) / 3)
    vectors = [member.encode(TOKENS, LENGTHS) for member in model.members]
    assert_close(model.encode(TOKENS, LENGTHS), torch.cat(vectors, 1))
    assert model.vector_size == 12


def test_steps_of_a_stream_end_with_the_answer_of_the_whole(model):
    state = None
    for tokens_t in TOKENS:
        log_p, state = model.step(tokens_t, state)
    assert_close(log_p, model.log_probabilities(TOKENS))


def test_each_member_has_the_gradient_that_it_has_alone(model):
    targets = torch.tensor([0, 1, 1])
    loss, nats = model.loss(TOKENS, LENGTHS, targets)
    loss.backward()
    together = [member.linear.weight.grad.clone() for member in model.members]
    alone = []
    for member, found in zip(model.members, together, strict=True):
        member.zero_grad()
        own, own_nats = member.loss(TOKENS, LENGTHS, targets)
        own.backward()
        assert_close(member.linear.weight.grad, found)
        alone.append(own_nats)
    assert_close(nats, torch.stack(alone).mean())


def test_a_member_learns_nothing_from_examples_that_it_is_not_to_see(model):
    targets, unseen_by = torch.tensor([0, 1, 1]), torch.tensor([1, -1, 1])
    model.loss(TOKENS, LENGTHS, targets, None, unseen_by)[0].backward()
    for m, member in enumerate(model.members):
        found = member.linear.weight.grad.clone()
        member.zero_grad()
        rows = [1] if m == 1 else [0, 1, 2]
        own, _ = member.loss(TOKENS[:, rows], LENGTHS[rows], targets[rows])
        (own * len(rows) / 3).backward()  # the mean is over the batch, whoever learns from it
        assert_close(found, member.linear.weight.grad)
    model.zero_grad()
    model.loss(TOKENS, LENGTHS, targets, None, torch.tensor([2, 2, 2]))[0].backward()
    gradients = [[p.grad.abs().sum() for p in member.parameters()] for member in model.members]
    assert sum(gradients[2]) == 0
    assert min(sum(gradients[0]), sum(gradients[1])) > 0


def test_it_is_built_again_from_its_options_and_scales_every_member(model):
    again = ClassifierEnsemble(**model.options()).eval()
    again.load_state_dict(model.state_dict())
    assert_close(again.log_probabilities(TOKENS), model.log_probabilities(TOKENS))
    series = ClassifierEnsemble(2, 2, channels=1, hidden_size=3)
    series.set_scale(torch.tensor([5.0]), torch.tensor([2.0]))
    assert [float(member.input_mean) for member in series.members] == [5, 5]
    with pytest.raises(ArgumentError, match="count=0"):
        ClassifierEnsemble(0, 2, channels=1)
