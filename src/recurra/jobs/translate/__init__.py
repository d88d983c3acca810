"""Translation from files to a model in use."""
