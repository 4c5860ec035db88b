"""Cache of encoded latents; training on it needs no image loading, degradation or encoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from refusion.data.stream import photo_at
from refusion.files import atomic_write


class LatentPairs(Dataset):
    """Endless stream of cached latent pairs.

    Items are `{"mu", "x0"}`, float32 (C, h, w), and the conditions of the network, for example
    `"lens"`. Each epoch contains every pair once, in a new random order.

    Args:
        pairs: tensors by name, with one row per pair.
        seed: seed of the order.
    """

    def __init__(self, pairs: Mapping[str, Tensor], seed: int) -> None:
        self.pairs, self.seed = dict(pairs), seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Pair at the position `index` >= 0 of the stream."""
        number = photo_at(self.seed, index, len(self.pairs["mu"]))
        return {name: rows[number].float() for name, rows in self.pairs.items()}


def cache_key(description: Any) -> str:
    """SHA-256 fingerprint of JSON values: the settings that cached latents depend on."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def weights_key(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 fingerprint of weights, equal on all machines."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_latents(path: Path, key: str) -> dict[str, Tensor] | None:
    """Read latents by name; None if the file is missing, damaged or was made with another key."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):  # missing or damaged
        return None


def store_latents(path: Path, key: str, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Collect batches of latents and write them to a file; maps (B, C, h, w) become float16.

    Args:
        path: .safetensors file to write.
        key: fingerprint that `load_latents` compares.
        batches: latents and conditions by name.
    """
    stored = [{name: _compact(rows) for name, rows in batch.items()} for batch in batches]
    pairs = {name: torch.cat([batch[name] for batch in stored]) for name in stored[0]}
    with atomic_write(path) as temporary:
        save_file(pairs, temporary, metadata={"key": key})


def _compact(rows: Tensor) -> Tensor:
    return (rows.half() if rows.ndim == 4 else rows).cpu().contiguous()
