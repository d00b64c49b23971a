"""What the tests of the embedding model share: encoders that count, and a class as the stock ones are written."""

import asyncio
from threading import Event

from llama_index.core.embeddings import MultiModalEmbedding

from clip_qdrant.testing import FakeEncoder


class Counting(FakeEncoder):
    """Remembers what it embedded, batch by batch."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.image_batches, self.text_batches = [], []

    def embed_images(self, images):
        self.image_batches.append(list(images))
        return super().embed_images(self.image_batches[-1])

    def embed_texts(self, texts):
        self.text_batches.append(list(texts))
        return super().embed_texts(texts)


class Slow(FakeEncoder):
    """Embeds nothing until it is told to, or ten seconds have passed."""

    def __init__(self):
        super().__init__()
        self.go_on = Event()
        self.in_time = True

    def embed_images(self, images):
        self.in_time &= self.go_on.wait(10)
        return super().embed_images(images)

    def embed_texts(self, texts):
        self.in_time &= self.go_on.wait(10)
        return super().embed_texts(texts)

    async def heartbeat(self, beats):
        """Beat every 10 ms, and let the encoder go on after so many beats."""
        for _ in range(beats):
            await asyncio.sleep(0.01)
        self.go_on.set()


class Stock(MultiModalEmbedding):
    """LlamaIndex's base class with the hooks that its own subclasses fill in, over the fake encoder."""

    def _get_image_embedding(self, img_file_path):
        return FakeEncoder().embed_images([img_file_path])[0].tolist()

    async def _aget_image_embedding(self, img_file_path):
        return self._get_image_embedding(img_file_path)

    def _get_text_embedding(self, text):
        return FakeEncoder().embed_texts([text])[0].tolist()

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)
