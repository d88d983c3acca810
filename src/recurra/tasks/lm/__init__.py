"""Language modelling: lanes with carried state, perplexity, bits per byte."""
