"""Calls that write: points, vectors and payloads."""

from __future__ import annotations

from hypothesis import strategies as st
from qdrant_client import models

from tests.congruence import compare as same
from tests.congruence.data import ANYTHING, IDS, PAYLOADS, SPELLED_IDS, plain_id, point_vectors, vectors
from tests.congruence.filters import filters

SOME_IDS = st.lists(SPELLED_IDS, min_size=1, max_size=4)
KEYS = st.sampled_from(
    ["n", "kind", "obj", "obj.a", "arr", "arr[]", "arr[0]", "arr[].a", "x", "x.y", "x.y.a", "new", "new.x", '"a.b"']
)


def _structs(shape):
    one = st.builds(
        lambda point_id, vector, payload: models.PointStruct(id=point_id, vector=vector, payload=payload),
        SPELLED_IDS,
        point_vectors(shape),
        st.one_of(st.none(), PAYLOADS),
    )
    # An id twice in one conditional upsert is a listed difference.
    return st.lists(one, min_size=1, max_size=4, unique_by=lambda point: plain_id(point.id))


@st.composite
def _batches(draw, shape):
    ids = draw(st.lists(SPELLED_IDS, min_size=1, max_size=3, unique_by=plain_id))
    count = len(ids)
    name_lists = {name: st.lists(vectors(shape, name), min_size=count, max_size=count) for name in shape.names}
    if "" in shape.dense:
        columns = draw(name_lists[""])
    else:
        columns = draw(st.fixed_dictionaries({}, optional=name_lists))
    payloads = draw(st.one_of(st.none(), st.lists(PAYLOADS, min_size=count, max_size=count)))
    return models.Batch(ids=ids, vectors=columns, payloads=payloads)


def _selectors(shape):
    return st.one_of(
        SOME_IDS,
        SOME_IDS.map(lambda ids: models.PointIdsList(points=ids)),
        filters(shape.names),
        filters(shape.names).map(lambda given: models.FilterSelector(filter=given)),
    )


def _point_vectors(shape):
    one = st.builds(lambda i, v: models.PointVectors(id=i, vector=v), SPELLED_IDS, point_vectors(shape))
    return st.lists(one, min_size=1, max_size=3)


def _patches():
    return st.one_of(PAYLOADS, st.dictionaries(st.sampled_from(["a", "b", "x", "new"]), ANYTHING, max_size=2))


def writes(shape):
    """One call that changes points."""
    selectors = _selectors(shape)
    names = st.lists(st.sampled_from(shape.names), min_size=1, max_size=2, unique=True)
    update_filter = {"update_filter": filters(shape.names)}
    mode = {"update_mode": st.sampled_from(models.UpdateMode)}
    keys = {"keys": st.lists(KEYS, min_size=1, max_size=2)}
    calls = {
        "upsert": ({"points": st.one_of(_structs(shape), _batches(shape))}, {**update_filter, **mode}),
        "upload_points": ({"points": _structs(shape), "wait": st.just(True)}, {**update_filter, **mode}),
        "upload_collection": (_columns(shape), {}),
        "update_vectors": ({"points": _point_vectors(shape)}, update_filter),
        "delete_vectors": ({"vectors": names, "points": selectors}, {}),
        "delete": ({"points_selector": selectors}, {}),
        "set_payload": ({"payload": _patches(), "points": selectors}, {"key": KEYS}),
        "overwrite_payload": ({"payload": PAYLOADS, "points": selectors}, {}),
        "delete_payload": ({**keys, "points": selectors}, {}),
        "clear_payload": ({"points_selector": selectors}, {}),
        "batch_update_points": ({"update_operations": st.lists(_operations(shape), max_size=4)}, {}),
    }
    return st.one_of(
        *[
            st.fixed_dictionaries({"collection_name": st.just("c"), **needed}, optional=optional).map(
                lambda given, method=method: same.Call(method, given, same.exactly, writes=True)
            )
            for method, (needed, optional) in calls.items()
        ]
    )


def _columns(shape):
    rows = st.integers(1, 3).flatmap(
        lambda count: st.tuples(
            st.lists(IDS, min_size=count, max_size=count, unique=True),
            st.lists(point_vectors(shape), min_size=count, max_size=count),
            st.lists(PAYLOADS, min_size=count, max_size=count),
        )
    )
    shared = st.shared(rows, key="columns of an upload")
    return {
        "ids": shared.map(lambda columns: columns[0]),
        "vectors": shared.map(lambda columns: columns[1]),
        "payload": shared.map(lambda columns: columns[2]),
    }


def _selected(shape):
    return st.one_of(
        SOME_IDS.map(lambda ids: {"points": ids}), filters(shape.names).map(lambda given: {"filter": given})
    )


def _operations(shape):
    chosen = _selected(shape)
    set_payload = st.builds(
        lambda payload, selector, key: models.SetPayload(payload=payload, key=key, **selector),
        _patches(),
        chosen,
        st.one_of(st.none(), KEYS),
    )
    selectors = st.one_of(
        SOME_IDS.map(lambda ids: models.PointIdsList(points=ids)),
        filters(shape.names).map(lambda given: models.FilterSelector(filter=given)),
    )
    return st.one_of(
        _structs(shape).map(lambda points: models.UpsertOperation(upsert=models.PointsList(points=points))),
        _batches(shape).map(lambda batch: models.UpsertOperation(upsert=models.PointsBatch(batch=batch))),
        selectors.map(lambda selector: models.DeleteOperation(delete=selector)),
        set_payload.map(lambda given: models.SetPayloadOperation(set_payload=given)),
        set_payload.map(
            lambda given: models.OverwritePayloadOperation(overwrite_payload=given.model_copy(update={"key": None}))
        ),
        st.builds(
            lambda keys, selector: models.DeletePayloadOperation(
                delete_payload=models.DeletePayload(keys=keys, **selector)
            ),
            st.lists(KEYS, min_size=1, max_size=2),
            chosen,
        ),
        selectors.map(lambda selector: models.ClearPayloadOperation(clear_payload=selector)),
        _point_vectors(shape).map(
            lambda points: models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=points))
        ),
        st.builds(
            lambda names, selector: models.DeleteVectorsOperation(
                delete_vectors=models.DeleteVectors(vector=names, **selector)
            ),
            st.lists(st.sampled_from(shape.names), min_size=1, max_size=2, unique=True),
            chosen,
        ),
    )
