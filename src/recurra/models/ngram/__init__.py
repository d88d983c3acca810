"""N-gram language models: counting, smoothing, the model, ARPA and binary files."""

from recurra.models.ngram.model import NGramModel
from recurra.models.ngram.smoothing import SMOOTHINGS

__all__ = ["SMOOTHINGS", "NGramModel"]
