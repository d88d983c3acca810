"""The tagging job: `recurra train tag`, `recurra.Tagger`."""
