"""Qdrant's own engine in this process: a folder behind the interface of `qdrant_client.QdrantClient`.

The engine (qdrant-edge) knows shards; collections, names, locks, point ids as queries and typed errors are ours:

    client.py          the clients that users hold; the client's own input handling stays qdrant-client's
    async_engine.py    the asynchronous twin, generated from the engine's methods
    engine.py          `EdgeEngine`, a `QdrantBase`: collections.py + writes.py + reads.py + unsupported.py
    native.py          the one import of the engine
    store.py           one folder: lock.py, manifest.py and one shard.py per collection; shared within the process
    convert_*.py       qdrant-client's models to the engine's and back; validation happens here, before any write

Durability: a write that returned survives a killed process (the engine's write-ahead log). What was flushed also
survives a power loss; flushes happen at most `shard.FLUSH_SECONDS` apart while writes come in, when a collection is
made, at the end of an upload, on `client.flush(…)`, on close and at the end of the process.
"""
