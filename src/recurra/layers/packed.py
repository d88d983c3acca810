"""PackedSequence in and out: a padded batch and its lengths, and back."""

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """The padded batch (time, batch, input) in the caller's order of rows, and its lengths."""
    return pad_packed_sequence(packed)


def repack(y: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """Pack y (time, batch, size) exactly as `like` is packed, the order of its rows included."""
    if like.sorted_indices is not None:
        y = y.index_select(1, like.sorted_indices)
        lengths = lengths[like.sorted_indices.to(lengths.device)]
    data = pack_padded_sequence(y, lengths.cpu()).data
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
