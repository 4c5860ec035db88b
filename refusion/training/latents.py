"""Latents encoded once: the diffusion stage then costs no image loading, haze or encoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from refusion.data.stream import photo_at


class LatentPairs(Dataset):
    """Endless stream over cached latent pairs: ``{"mu", "x0"}`` float32 (C, h, w).

    Every run of ``len(mu)`` samples shows each pair once, in a fresh order per epoch.

    Args:
        mu: latents of the degraded images, (N, C, h, w) float16.
        x0: latents of the clean images, the same shape.
        seed: of the order.
    """

    def __init__(self, mu: Tensor, x0: Tensor, seed: int) -> None:
        self.mu, self.x0, self.seed = mu, x0, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Pair of the stream's position ``index`` >= 0."""
        number = photo_at(self.seed, index, len(self.mu))
        return {"mu": self.mu[number].float(), "x0": self.x0[number].float()}


def cache_key(description: Any) -> str:
    """Fingerprint of everything cached latents depend on (JSON values)."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def load_latents(path: Path, key: str) -> tuple[Tensor, Tensor] | None:
    """Latents ``(mu, x0)`` of an earlier run, None if there are none made with this key."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("key") != key:
            return None
        return file.get_tensor("mu"), file.get_tensor("x0")


def store_latents(path: Path, key: str, pairs: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Encode and keep all ``pairs`` of latents (B, C, h, w) as float16; whole or not at all."""
    halves = [tuple(part.half().cpu().contiguous() for part in pair) for pair in pairs]
    mu, x0 = (torch.cat(parts) for parts in zip(*halves, strict=True))
    aside = path.with_suffix(".part")
    save_file({"mu": mu, "x0": x0}, aside, metadata={"key": key})
    aside.replace(path)
