"""The embedded client and qdrant-client's local mode: the same calls, the same answers.

CONGRUENCE_EXAMPLES=2000 pytest tests/test_congruence.py    hunts for longer, and other examples each time
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant import connect
from clip_qdrant.storage.edge.unsupported import UnsupportedMixin
from tests.congruence.compare import compare_contents, run
from tests.congruence.data import INDEXES, SHAPES, points
from tests.congruence.definitions import NAMES, definitions, mistakes
from tests.congruence.queries import batch_calls, filter_counts, group_calls, query_calls, reads
from tests.congruence.writes import writes

HUNT = int(os.environ.get("CONGRUENCE_EXAMPLES") or 0)
CALLS = {
    "filters": lambda shape: st.lists(filter_counts(shape), min_size=4, max_size=12),
    "queries": lambda shape: st.lists(query_calls(shape), min_size=2, max_size=6),
    "groups": lambda shape: st.lists(st.one_of(group_calls(shape), batch_calls(shape)), min_size=2, max_size=4),
    "reads": lambda shape: st.lists(reads(shape), min_size=2, max_size=6),
    "writes": lambda shape: st.lists(writes(shape), min_size=1, max_size=5),
    "definitions": lambda shape: st.lists(definitions(shape), min_size=3, max_size=8),
    "mistakes": lambda shape: st.lists(mistakes(shape), min_size=2, max_size=4),
    "mixed": lambda shape: st.lists(
        st.one_of(writes(shape), writes(shape), query_calls(shape), reads(shape)), min_size=2, max_size=6
    ),
}
EXAMPLES = 20


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with connect(":memory:") as memory, connect(tmp_path_factory.mktemp("congruence")) as embedded:
        yield memory, embedded


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
@pytest.mark.parametrize("shape_name", SHAPES)
@pytest.mark.parametrize("area", CALLS)
@settings(
    max_examples=HUNT or EXAMPLES,
    derandomize=not HUNT,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if HUNT else [Phase.generate],
)
@given(data=st.data())
def test_the_same_calls_give_the_same_answers(clients, area, shape_name, data):
    shape = SHAPES[shape_name]
    indexes = data.draw(
        st.one_of(
            st.just([]), st.just(sorted(INDEXES)), st.lists(st.sampled_from(sorted(INDEXES)), max_size=3, unique=True)
        ),
        label="indexes",
    )
    stored = data.draw(points(shape), label="points")
    elsewhere = data.draw(points(shape, max_size=3), label="points of 'other'")
    calls = data.draw(CALLS[area](shape), label="calls")
    fill(clients, shape, indexes, {"c": stored, "other": elsewhere})
    run(calls, *clients, collections=NAMES)


def fill(clients, shape, indexes, contents):
    for client in clients:
        for alias in client.get_aliases().aliases:
            gone = models.DeleteAlias(alias_name=alias.alias_name)
            client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=gone)])
        for name in NAMES:
            if client.collection_exists(name):
                client.delete_collection(name)
        for name, stored in contents.items():
            client.create_collection(name, **shape.config)
            for key in indexes:
                client.create_payload_index(name, key, field_schema=INDEXES[key])
            if stored:
                client.upsert(name, stored)
    for name in contents:
        compare_contents(*clients, name)


def test_every_method_is_compared():
    base = {name for name in vars(QdrantBase) if not name.startswith("_")}
    unsupported = {name for name in vars(UnsupportedMixin) if not name.startswith("_")}
    elsewhere = {"close", "info", "migrate", "upload_records"}
    texts = [path.read_text() for path in (Path(__file__).parent / "congruence").glob("*.py")]
    missing = {name for name in base - unsupported - elsewhere if not any(f'"{name}"' in text for text in texts)}
    assert missing == set()
