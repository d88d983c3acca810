"""Classification: batches by length, loss, measures, prediction."""
