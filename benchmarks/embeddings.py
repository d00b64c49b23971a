"""Made-up embeddings that are near to each other the way real ones are: clusters of all sizes in a cone.

Vectors drawn evenly over a sphere are the worst case of every index, and nothing like pictures. A vector here is the
sum of four parts, scaled to unit length:

    cone       one direction that all share: real embeddings are not centred
    cluster    the centre of one of 1,000 clusters, whose sizes follow Zipf's law
    variation  what tells the members of a cluster apart
    noise      a little in every dimension

Cluster centres and variation lie in one subspace of 64 dimensions, with less and less variance in each.

Run: python benchmarks/embeddings.py [FILE.npy]. Prints the neighbourhoods of made-up vectors, and of those in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]

CHUNK = 5_000
QUERY_STREAM = 2**31
"""The number of the chunk that queries are drawn from; no points are."""


@dataclass(frozen=True)
class ClusteredEmbeddings:
    """The first n vectors are the same, however many are asked for.

    Attributes:
        dim: of the vectors.
        seed: another one is another world.
        clusters: how many there are.
        intrinsic: dimensions of the subspace in which clusters and their members vary.
        cone, spread, noise: lengths of the parts, against 1 for a cluster's centre.
    """

    dim: int = 512
    seed: int = 0
    clusters: int = 1_000
    intrinsic: int = 64
    cone: float = 0.8
    spread: float = 0.8
    noise: float = 0.25
    _basis: Vectors = field(init=False, repr=False, compare=False)
    _centres: Vectors = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 0])
        directions = np.linalg.qr(rng.normal(size=(self.dim, self.intrinsic + 1)))[0].T
        variances = 1 / np.arange(1, self.intrinsic + 1)
        basis = directions[1:] * np.sqrt(variances / variances.sum())[:, None]
        centres = rng.normal(size=(self.clusters, self.intrinsic)) @ basis + self.cone * directions[0]
        object.__setattr__(self, "_basis", basis.astype(np.float32))
        object.__setattr__(self, "_centres", centres.astype(np.float32))

    def chunks(self, count: int) -> Iterator[Vectors]:
        """The first vectors, some thousands at a time: unit float32, shape (at most CHUNK, dim)."""
        for number, start in enumerate(range(0, count, CHUNK)):
            yield self._draw(number, CHUNK)[: count - start]

    def queries(self, count: int) -> Vectors:
        """Vectors of the same kind that are none of the points, shape (count, dim)."""
        return self._draw(QUERY_STREAM, count)

    def _draw(self, number: int, count: int) -> Vectors:
        rng = np.random.default_rng([self.seed, 1, number])
        shares = 1 / np.arange(1, self.clusters + 1)
        cluster = rng.choice(self.clusters, size=count, p=shares / shares.sum())
        variation = rng.standard_normal((count, self.intrinsic), dtype=np.float32) @ self._basis
        noise = rng.standard_normal((count, self.dim), dtype=np.float32) / np.float32(np.sqrt(self.dim))
        vectors = self._centres[cluster] + np.float32(self.spread) * variation + np.float32(self.noise) * noise
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def neighbourhood(vectors: Vectors, k: int = 20) -> dict[str, float]:
    """What decides how hard a search is, from all pairs; for some thousands of unit vectors.

    The local dimension is Levina and Bickel's maximum likelihood estimate (2004), averaged as MacKay and Ghahramani do
    (2005): one over the mean, over all points and their k neighbours but the last, of log(last / i-th distance).
    """
    cosines = vectors @ vectors.T
    pairs = cosines[np.triu_indices(len(vectors), 1)]
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.clip(-np.sort(-cosines, axis=1)[:, :k], -1, 1 - 1e-7)
    distances = np.sqrt(2 - 2 * nearest.astype(np.float64))
    logarithms = np.log(distances[:, -1:] / distances[:, :-1])
    return {
        "points": len(vectors),
        "mean cosine": float(pairs.mean()),
        "nearest neighbour's": float(nearest[:, 0].mean()),
        f"{k}th neighbour's": float(nearest[:, -1].mean()),
        "local dimension": 1 / float(logarithms.mean()),
    }


def main() -> None:
    """Print the table."""
    real = [("given", np.load(name).astype(np.float32)) for name in sys.argv[1:]]
    rng = np.random.default_rng(0)
    for name, vectors in real or [("", np.empty((2_000, 512), np.float32))]:
        count, dim = vectors.shape
        even = rng.standard_normal((count, dim), dtype=np.float32)
        rows = {
            name: vectors,
            "made up": next(ClusteredEmbeddings(dim).chunks(min(count, CHUNK))),
            "evenly random": even / np.linalg.norm(even, axis=1, keepdims=True),
        }
        for row, values in rows.items():
            if row:
                figures = ", ".join(f"{key} {value:.4g}" for key, value in neighbourhood(values).items())
                print(f"{row:14} {figures}")


if __name__ == "__main__":
    main()
