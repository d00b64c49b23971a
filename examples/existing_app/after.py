"""The app of before.py on clip-qdrant: other imports, and nothing else. Run: python after.py FOLDER."""

import sys
from pathlib import Path

from llama_index.core import Document, StorageContext
from llama_index.core.schema import ImageDocument
from qdrant_client import QdrantClient

from clip_qdrant import ClipEmbedding
from clip_qdrant import ClipIndex as MultiModalVectorStoreIndex
from clip_qdrant import ClipQdrantVectorStore as QdrantVectorStore


def main(pictures: Path, notes: dict[str, str], model_name: str = "ViT-B/32") -> None:
    """Index pictures and notes, and find both by one question."""
    documents = [Document(text=text, id_=name) for name, text in notes.items()]
    documents += [ImageDocument(image_path=str(path), id_=path.name) for path in sorted(pictures.glob("*.png"))]

    client = QdrantClient(location=":memory:")
    storage_context = StorageContext.from_defaults(
        vector_store=QdrantVectorStore(client=client, collection_name="texts"),
        image_store=QdrantVectorStore(client=client, collection_name="images"),
    )
    index = MultiModalVectorStoreIndex.from_documents(
        documents,
        storage_context=storage_context,
        embed_model=ClipEmbedding(model_name=model_name),
        image_embed_model=ClipEmbedding(model_name=model_name),
    )

    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    for found in retriever.retrieve("a red apple"):
        print(found.node.metadata.get("name") or found.node.ref_doc_id)
    index.delete_ref_doc("red-apple.png")
    print(len(retriever.text_to_image_retrieve("a red apple")), "picture, of another thing")


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"apples": "Apples are red, green or yellow.", "stars": "Stars are far away."})
