"""Networks that forecast: autoregressive, direct, segment-wise, and dense for comparison."""
