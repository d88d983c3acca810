"""Whole jobs: from files to a run folder, and back to a model in use."""
