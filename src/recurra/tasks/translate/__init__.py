"""Translation: batches of pairs, loss, search, metrics."""
