"""Latents encoded once: the diffusion stage then costs no image loading, haze or encoding."""

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
    """Endless stream over cached latent pairs.

    Items are ``{"mu", "x0"}`` float32 (C, h, w), and ``"lens"`` where the network is told. Every
    run of as many samples as there are pairs shows each once, in a fresh order per epoch.

    Args:
        pairs: tensors by name, one row per pair.
        seed: of the order.
    """

    def __init__(self, pairs: Mapping[str, Tensor], seed: int) -> None:
        self.pairs, self.seed = dict(pairs), seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Pair of the stream's position ``index`` >= 0."""
        number = photo_at(self.seed, index, len(self.pairs["mu"]))
        return {name: rows[number].float() for name, rows in self.pairs.items()}


def cache_key(description: Any) -> str:
    """Fingerprint of everything cached latents depend on (JSON values)."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def weights_key(weights: Mapping[str, Tensor]) -> str:
    """Fingerprint of weights, the same on every machine."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_latents(path: Path, key: str) -> dict[str, Tensor] | None:
    """Latents of an earlier run by name, None if there are none made with this key."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):  # missing, or damaged by what killed the process
        return None


def store_latents(path: Path, key: str, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Encode and keep all batches, the maps (B, C, h, w) as float16; whole or not at all."""
    kept = [{name: _compact(rows) for name, rows in batch.items()} for batch in batches]
    pairs = {name: torch.cat([batch[name] for batch in kept]) for name in kept[0]}
    with atomic_write(path) as aside:
        save_file(pairs, aside, metadata={"key": key})


def _compact(rows: Tensor) -> Tensor:
    return (rows.half() if rows.ndim == 4 else rows).cpu().contiguous()
