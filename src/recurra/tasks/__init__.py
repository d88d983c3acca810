"""The jobs as batches, loss, metric, decoding; `task.Task` is what the trainer asks of them."""
