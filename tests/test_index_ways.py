"""ClipIndex, an ingestion pipeline and insert_nodes: three ways for many nodes, and the same points."""

import numpy as np
import pytest
from llama_index.core import Document, StorageContext
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeRelationship
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, connect
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.llamaindex.reader import ClipReader
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path / "qdrant") as client:
        yield client


def test_2000_nodes_are_the_same_by_every_way(client, tmp_path):
    """Half pictures, half texts of one chunk: by insert_nodes, by a pipeline and from documents."""
    count = 1_000
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(count):
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST).save(
            tmp_path / "pictures" / f"{number:04}.png"
        )
    colours = ("red", "green", "blue", "yellow")
    texts = [
        Document(id_=f"t{number}", text=f"{colours[number % 4]} note {number}", metadata={"number": number})
        for number in range(count)
    ]
    documents = [*ClipReader().load_data(tmp_path / "pictures"), *texts]
    embedding = ClipEmbedding(encoder=FakeEncoder())

    def store(name):
        return ClipQdrantVectorStore(name, client=client, encoder=embedding)

    ClipIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store("documents")),
        embed_model=embedding,
        transformations=[SentenceSplitter()],
    )
    nodes = SentenceSplitter().get_nodes_from_documents(texts)
    for document in documents[:count]:
        source = {NodeRelationship.SOURCE: document.as_related_node_info()}
        nodes.append(document.model_copy(update={"relationships": source}))
    ClipIndex(
        storage_context=StorageContext.from_defaults(vector_store=store("nodes")), embed_model=embedding
    ).insert_nodes(nodes)
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding], vector_store=store("pipeline"))
    pipeline.run(documents=documents)

    def contents(name):
        rows = {}
        for hit in ClipCollection(client, name, FakeEncoder()).vectors.scan(with_vectors=True):
            metadata = {key: value for key, value in hit.metadata.items() if key != "source"}
            rows[hit.payload["ref_doc_id"]] = (metadata, hit.text, hit.vector.tobytes())
        return rows

    by_documents = contents("documents")
    assert len(by_documents) == 2 * count
    assert contents("nodes") == by_documents
    assert contents("pipeline") == by_documents
