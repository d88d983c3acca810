"""Search by likeness: the lines nearest to a query, by the vectors of a trained classifier.

    python examples/nearest_sentences.py                 first trains on names in twenty languages
    python examples/nearest_sentences.py RUN LINES.txt "a query" …     with a classifier of yours

A classifier's vector holds what its labels asked for: of names, the look of a language; of reviews,
their mood. Lines are encoded once, in batches; a search is then a product of a matrix and a vector.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

import recurra
from recurra.data import language_names, read_lines

QUERIES = ("Schwarzwald", "kaukazų kalba", "isla de Pascua", "Øresund")


class Nearest:
    """Lines with their vectors of length 1; the nearest has the largest cosine."""

    def __init__(self, model: recurra.Classifier, lines: list[str]) -> None:
        self.model, self.lines = model, lines
        self.vectors = self._encoded(lines)

    def _encoded(self, lines: list[str]) -> Tensor:
        return normalize(self.model.encode(lines), dim=1)

    def search(self, query: str, count: int = 5) -> list[tuple[float, str]]:
        """The nearest lines with their cosine, the best first."""
        cosines = self.vectors @ self._encoded([query])[0]
        best = cosines.topk(min(count, len(self.lines)))
        return [
            (float(c), self.lines[i])
            for c, i in zip(best.values, best.indices.tolist(), strict=True)
        ]


def main(arguments: list[str]) -> None:
    if arguments:
        model = recurra.load(arguments[0])
        lines, queries = read_lines(Path(arguments[1])), arguments[2:]
    else:
        torch.manual_seed(1)
        model = recurra.Classifier.train(max_epochs=3, baselines=False)
        lines, queries = list(language_names.load().test.inputs), list(QUERIES)
    index = Nearest(model, lines)
    for query in queries:
        print(f"\n{query}")
        for cosine, line in index.search(query):
            print(f"  {cosine:.3f}  {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
