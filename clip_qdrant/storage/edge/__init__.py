"""Qdrant's own engine in this process: a folder behind the interface of `qdrant_client.QdrantClient`.

The engine (qdrant-edge) knows shards; collections, names, locks, point ids as queries and typed errors are ours:

    client.py          the clients that users hold; the client's own input handling stays qdrant-client's
    async_engine.py    the asynchronous twin, generated from the engine's methods
    engine.py          `EdgeEngine`, a `QdrantBase`: collections.py, vector_names.py, writes.py, reads.py, groups.py,
                       matrix.py and unsupported.py
    native.py          the one import of the engine
    store.py           one folder: lock.py, manifest.py and its collections; shared within the process
    collection.py      one open collection: shard.py (the engine's handle), space.py (its vectors), strict.py
    definition.py      changes of a collection's definition
    convert_*.py       qdrant-client's models to the engine's and back; validation happens here, before any write

Durability: a write that returned survives a killed process (the engine's write-ahead log). What was flushed also
survives a power loss; a flush happens at most `shard.FLUSH_SECONDS` after a write, when a collection is made or its
vectors change, at the end of an upload, on `client.flush(…)`, on close and at the end of the process.
"""
