"""Classifiers and sentence encoders, from files to use."""
