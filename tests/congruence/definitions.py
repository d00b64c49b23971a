"""Calls that make, change and drop collections, aliases, indexes and vectors."""

from __future__ import annotations

from hypothesis import strategies as st
from qdrant_client import models

from tests.congruence import compare as same
from tests.congruence.data import INDEXES, SHAPES

NAMES = ["c", "other", "third"]
COLLECTIONS = st.sampled_from(NAMES)
ALIASES = st.sampled_from(["alias", "second", "c"])
METADATA = st.one_of(st.none(), st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3), max_size=2))
VECTORS = st.sampled_from(["new", "image", "lexical"])


def _alias_operations():
    create = st.builds(
        lambda name, alias: models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=name, alias_name=alias)
        ),
        COLLECTIONS,
        ALIASES,
    )
    delete = ALIASES.map(lambda alias: models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
    rename = st.builds(
        lambda old, new: models.RenameAliasOperation(
            rename_alias=models.RenameAlias(old_alias_name=old, new_alias_name=new)
        ),
        ALIASES,
        ALIASES,
    )
    return st.lists(st.one_of(create, create, delete, rename), min_size=1, max_size=3)


def _creations():
    return st.builds(
        lambda name, shape, metadata: {"collection_name": name, **shape.config, "metadata": metadata},
        COLLECTIONS,
        st.sampled_from(list(SHAPES.values())),
        METADATA,
    )


def definitions(shape):
    """One call that changes what collections there are, or asks."""
    named = st.fixed_dictionaries({"collection_name": COLLECTIONS})
    existing = st.sampled_from(["c", "c", "alias", "third", "missing"])
    asked = st.fixed_dictionaries({"collection_name": existing})
    calls = {
        "create_collection": (_creations(), same.exactly),
        "recreate_collection": (_creations(), same.exactly),
        "delete_collection": (named, same.exactly),
        "collection_exists": (asked, same.exactly),
        "get_collection": (asked, same.described),
        "get_collections": (st.just({}), same.collection_names),
        "update_collection": (_with(asked, metadata=METADATA), same.exactly),
        "update_collection_aliases": (
            st.fixed_dictionaries({"change_aliases_operations": _alias_operations()}),
            same.exactly,
        ),
        "get_aliases": (st.just({}), same.alias_names),
        "get_collection_aliases": (asked, same.alias_names),
        "create_payload_index": (_indexes(asked), same.exactly),
        "delete_payload_index": (_with(asked, field_name=st.sampled_from(sorted(INDEXES))), same.exactly),
        "create_vector_name": (_new_vectors(asked), same.exactly),
        "delete_vector_name": (_with(asked, vector_name=VECTORS), same.exactly),
        "count": (asked, same.exactly),
    }
    return st.one_of(
        *[
            given.map(lambda kwargs, method=method, compare=compare: same.Call(method, kwargs, compare, writes=True))
            for method, (given, compare) in calls.items()
        ]
    )


def _with(base, **more):
    return st.builds(lambda one, other: one | other, base, st.fixed_dictionaries(more))


def _indexes(base):
    return st.builds(
        lambda one, field: one | {"field_name": field, "field_schema": INDEXES[field]},
        base,
        st.sampled_from(sorted(INDEXES)),
    )


def _new_vectors(base):
    configs = [
        models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance=models.Distance.DOT)),
        models.SparseVectorNameConfig(sparse=models.SparseVectorConfig()),
    ]
    return _with(base, vector_name=VECTORS, vector_name_config=st.sampled_from(configs))


def mistakes(shape):
    """One call that both must refuse, and write nothing."""
    nowhere = {"collection_name": "missing"}
    name = shape.names[0]
    filtered = models.Filter(must=[models.HasIdCondition(has_id=[1])])
    calls = [
        ("count", nowhere),
        ("retrieve", nowhere | {"ids": [1]}),
        ("scroll", nowhere),
        ("delete", nowhere | {"points_selector": [1]}),
        ("set_payload", nowhere | {"payload": {"a": 1}, "points": [1]}),
        ("clear_payload", nowhere | {"points_selector": filtered}),
        ("facet", nowhere | {"key": "n"}),
        ("query_points", nowhere | {"query": [0.1, 0.2, 0.3]}),
        ("query_points", {"collection_name": "c", "query": [0.1, 0.2, 0.3, 0.4], "using": "missing"}),
        ("query_points", {"collection_name": "c", "query": 12345, "using": name or None}),
        ("delete_vectors", {"collection_name": "c", "vectors": ["missing"], "points": [1]}),
        ("get_collection", nowhere),
        ("upsert", nowhere | {"points": [models.PointStruct(id=1, vector={})]}),
        ("upsert", {"collection_name": "c", "points": [models.PointStruct(id=1, vector={"missing": [0.1]})]}),
        ("update_vectors", {"collection_name": "c", "points": [models.PointVectors(id=1, vector={"missing": [0.1]})]}),
        ("search_matrix_pairs", nowhere),
        ("query_points_groups", nowhere | {"query": [0.1], "group_by": "n"}),
        ("create_payload_index", nowhere | {"field_name": "n", "field_schema": "integer"}),
    ]
    return st.sampled_from(calls).map(lambda call: same.Call(*call, compare=same.both_refuse, writes=True))
