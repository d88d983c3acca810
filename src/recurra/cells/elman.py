"""Elman networks: the hidden state is fed back.

    h' = φ(W x + b_ih + R h + b_hh)

φ is tanh, ReLU or the logistic function. Gate order: a. Source: Elman 1990, "Finding structure in
time"; tanh and ReLU as `torch.nn.RNN`.

IRNN is the ReLU network whose R starts as the identity and whose biases start at zero, so that at
first it copies its state: Le, Jaitly & Hinton 2015, "A simple way to initialize recurrent networks
of rectified linear units", section 2.
"""

import torch

from recurra.cells._cell import Cell, Tensors


def step_tanh(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    return (torch.tanh(from_input[0] + from_hidden[0]),)


def step_relu(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    return (torch.relu(from_input[0] + from_hidden[0]),)


def step_sigmoid(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    return (torch.sigmoid(from_input[0] + from_hidden[0]),)


ELMAN_CELL = Cell(name="rnn", gates=("a",), states=("h",), step=step_tanh)
ELMAN_RELU_CELL = Cell(name="rnn_relu", gates=("a",), states=("h",), step=step_relu)
ELMAN_SIGMOID_CELL = Cell(name="rnn_sigmoid", gates=("a",), states=("h",), step=step_sigmoid)
IRNN_CELL = Cell(
    name="irnn", gates=("a",), states=("h",), step=step_relu, recurrent_init="identity"
)
