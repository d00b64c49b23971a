"""Qdrant's settings of a collection's vectors, as the stock store takes them -> fields of a `CollectionSchema`.

    dense_config            size, distance, on_disk, hnsw_config (m, ef_construct, on_disk), quantization_config
    quantization_config     scalar int8, TurboQuant of 4 bits; the small copies are in memory

What a `CollectionSchema` has no word for is refused: a setting that is dropped would be missed when it is too late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_client import models

_HNSW = ("m", "ef_construct", "on_disk")
_DENSE = ("size", "distance", "on_disk", "hnsw_config", "quantization_config")
_COPIES = (
    "the small copies of CollectionSchema(quantization=…): int8 with the quantile 0.99, or TurboQuant with 4 bits, "
    "in memory always"
)


def schema_fields(dense_config: Any, quantization_config: Any) -> dict[str, Any]:
    """Fields of a `CollectionSchema`, of those settings that are given.

    Args:
        dense_config: a `VectorParams`, or None.
        quantization_config: a `ScalarQuantization`, a `TurboQuantization`, or None.

    Raises:
        ConfigError: another type, or a setting that there is not; it names what there is.
    """
    from qdrant_client import models

    fields: dict[str, Any] = {}
    if dense_config is not None:
        if not isinstance(dense_config, models.VectorParams):
            raise ConfigError(f"dense_config is Qdrant's VectorParams, got {dense_config!r}.")
        _check_known("dense_config", dense_config, _DENSE)
        fields |= {"dim": dense_config.size, "distance": dense_config.distance.value.lower()}
        fields |= {"on_disk": dense_config.on_disk, "hnsw": _hnsw(dense_config.hnsw_config)}
        quantization_config = quantization_config or dense_config.quantization_config
    if quantization_config is not None:
        fields["quantization"] = _quantization(quantization_config)
    return {name: value for name, value in fields.items() if value is not None}


def _hnsw(config: models.HnswConfigDiff | None) -> dict[str, Any] | None:
    if config is None:
        return None
    _check_known("dense_config.hnsw_config", config, _HNSW)
    return {name: value for name in _HNSW if (value := getattr(config, name)) is not None}


def _quantization(config: Any) -> str:
    from qdrant_client import models

    if isinstance(config, models.ScalarQuantization):
        own: Any = config.scalar
        name, as_ours = "int8", own.type == models.ScalarType.INT8 and own.quantile in (None, 0.99)
    elif isinstance(config, models.TurboQuantization):
        own = config.turbo
        name, as_ours = "turbo", own.bits in (None, models.TurboQuantBitSize.BITS4)
    else:
        own, name, as_ours = None, "", False
    if not as_ours or own.always_ram is False:
        raise ConfigError(f"quantization_config can be {_COPIES}; got {config!r}.")
    return name


def _check_known(name: str, config: Any, known: tuple[str, ...]) -> None:
    unknown = sorted(field for field, value in config if value is not None and field not in known)
    if unknown:
        raise ConfigError(
            f"{name} takes {', '.join(known)}, not {', '.join(unknown)}. Leave that out, or make the collection with "
            "client.create_collection: the store takes it as it is."
        )
