"""Where a model runs, and in what precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is cuda, then mps, then cpu.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"There is no device {device!r}. Use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(picked.type, False) or (
        picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count()
    ):
        raise ConfigError(f"This machine has no device {device!r}. Use 'auto' or 'cpu'.")
    return picked


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of that name; "auto" is the fastest that the device computes natively without loss of ranking.

    bfloat16 on a GPU that has it and on a CPU with AVX512-BF16 or AMX, float16 on older GPUs, float32 elsewhere.

    Raises:
        ConfigError: no such precision.
    """
    import torch

    if dtype == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"There is no dtype {dtype!r}. Use 'auto', {', '.join(map(repr, DTYPES))}.")
    picked: torch.dtype = getattr(torch, dtype)
    return picked


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively, with AVX512-BF16 or AMX."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))
    # Older releases of torch tell only under these names.
    tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests)
