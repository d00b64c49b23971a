"""Searches by examples, of stored points and of vectors -> Qdrant's recommend, discover and context queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.vectors_checks import pages, point_id
from clip_qdrant.storage.vectors_scan import PAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient, models

    from clip_qdrant.storage.points import Leg
    from clip_qdrant.storage.vectors_checks import Space

    Example: TypeAlias = str | int | NDArray[np.float32]
    """A stored point by its id, or a vector (dim,)."""

Strategy = Literal["average_vector", "best_score", "sum_scores"]
"""How examples are weighed: Qdrant's own names."""


class Examples:
    """Makes queries of examples, and makes sure that the stored ones among them are there.

    Args:
        client: of the collection.
        space: its vectors.
        using: which of them to compare.

    Raises:
        ConfigError: `using` names both kinds.
    """

    def __init__(self, client: QdrantClient, space: Space, using: Leg) -> None:
        if using not in ("image", "text"):
            raise ConfigError(
                f"Examples are compared by one kind of vector: using must be 'image' or 'text', got {using!r}."
            )
        self._client = client
        self._space = space
        self._using = using

    def recommend(
        self, positive: Sequence[Example], negative: Sequence[Example], strategy: Strategy
    ) -> models.RecommendQuery:
        """What is like some and unlike others.

        Raises:
            ConfigError: an unknown strategy, too few examples, or an id that has no such vector.
        """
        from qdrant_client import models

        if strategy not in ("average_vector", "best_score", "sum_scores"):
            raise ConfigError(f"strategy must be 'average_vector', 'best_score' or 'sum_scores', got {strategy!r}.")
        if not len(positive) and (strategy == "average_vector" or not len(negative)):
            raise ConfigError(f"recommend needs at least one positive example for strategy={strategy!r}.")
        given = self._checked([*positive, *negative])
        return models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=given[: len(positive)],
                negative=given[len(positive) :],
                strategy=models.RecommendStrategy(strategy),
            )
        )

    def discover(
        self, context: Sequence[tuple[Example, Example]], target: Example | None
    ) -> models.DiscoverQuery | models.ContextQuery:
        """What is on the positive side of pairs, and there near to a target if there is one.

        Raises:
            ConfigError: no pair, or an id that has no such vector.
        """
        from qdrant_client import models

        if not len(context):
            raise ConfigError("discover needs at least one pair of a positive and a negative example.")
        flat = [example for positive, negative in context for example in (positive, negative)]
        given = iter(self._checked(flat if target is None else [*flat, target]))
        pairs = [models.ContextPair(positive=next(given), negative=next(given)) for _ in context]
        if target is None:
            return models.ContextQuery(context=pairs)
        return models.DiscoverQuery(discover=models.DiscoverInput(target=next(given), context=pairs))

    def _checked(self, examples: Sequence[Example]) -> list[Any]:
        """Ids and vectors as Qdrant takes them; ids without such a vector are refused, as each backend would differ."""
        from qdrant_client import models

        given: list[Any] = [
            point_id(example) if isinstance(example, (str, int)) else self._space.query(self._using, example)
            for example in examples
        ]
        has_vector = models.HasVectorCondition(has_vector=self._using)
        for page in pages(list(dict.fromkeys(example for example in given if not isinstance(example, list))), PAGE):
            condition = models.Filter(must=[models.HasIdCondition(has_id=list(page)), has_vector])
            found, _ = self._client.scroll(
                self._space.collection, scroll_filter=condition, limit=len(page), with_payload=False
            )
            missing = [id for id in page if id not in {point.id for point in found}]
            if missing:
                raise ConfigError(
                    f"There is no point {str(missing[0])!r} with a vector {self._using!r} in "
                    f"{self._space.collection!r}. Give the id of one that is there, or another `using`."
                )
        return given
