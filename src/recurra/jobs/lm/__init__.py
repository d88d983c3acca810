"""Language models from text to use: n-gram, feed-forward and recurrent."""
