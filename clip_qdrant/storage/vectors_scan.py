"""All points of a collection, a page at a time, by id or by a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

PAGE = 1_000


def scan_by_id(
    client: QdrantClient, name: str, where: models.Filter | None, *, with_vectors: bool
) -> Iterator[models.Record]:
    """Points in the order of their ids."""
    offset: Any = None
    while True:
        points, offset = client.scroll(
            name, scroll_filter=where, limit=PAGE, offset=offset, with_payload=True, with_vectors=with_vectors
        )
        yield from points
        if offset is None:
            return


def scan_by_value(
    client: QdrantClient, name: str, where: models.Filter | None, field: str, *, descending: bool, with_vectors: bool
) -> Iterator[models.Record]:
    """Points in the order of a payload value; those without it are left out.

    Qdrant pages such a scroll by the value to start from. Points may share that value, so those of it which were seen
    are left out of the next page by their ids; a value that very many points share makes that a long list.
    """
    from qdrant_client import models

    direction = models.Direction.DESC if descending else models.Direction.ASC
    last, seen = None, list[Any]()
    while True:
        others = models.Filter(must=[where] if where else None, must_not=[models.HasIdCondition(has_id=seen)])
        points, _ = client.scroll(
            name,
            scroll_filter=others,
            limit=PAGE,
            order_by=models.OrderBy(key=field, direction=direction, start_from=last),
            with_payload=True,
            with_vectors=with_vectors,
        )
        yield from points
        if len(points) < PAGE:
            return
        end = points[-1].order_value
        seen = [*(seen if end == last else []), *(point.id for point in points if point.order_value == end)]
        last = end
