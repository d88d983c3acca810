"""Tagging: a tag for each word of each sentence."""
