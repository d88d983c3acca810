"""Recurrent layers: parameters, stacking, directions, lengths, regularisation, streaming."""

from recurra.kernels import Explanation
from recurra.layers.named import GRU, IRNN, LSTM, RNN, Jordan
from recurra.layers.recurrent import Recurrent
from recurra.layers.state import State

__all__ = ["GRU", "IRNN", "LSTM", "RNN", "Explanation", "Jordan", "Recurrent", "State"]
