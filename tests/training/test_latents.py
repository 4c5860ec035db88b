"""Cached latents: kept whole, recognised by their key, streamed in full each epoch."""

import torch

from refusion.training.latents import (
    LatentPairs,
    cache_key,
    load_latents,
    store_latents,
    weights_key,
)


def pairs(count):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        maps = {name: torch.randn(2, 4, 3, 3, generator=generator) for name in ("mu", "x0")}
        yield maps | {"lens": torch.rand(2, 3, generator=generator)}


def test_round_trip_and_key(tmp_path):
    path = tmp_path / "latents.safetensors"
    key = cache_key({"patch": 64})
    assert load_latents(path, key) is None
    store_latents(path, key, pairs(3))
    kept = load_latents(path, key)
    assert kept["mu"].shape == kept["x0"].shape == (6, 4, 3, 3)
    expected = torch.cat([batch["mu"] for batch in pairs(3)])
    torch.testing.assert_close(kept["mu"].float(), expected, atol=2e-3, rtol=1e-3)
    # numbers that are no maps are not rounded to half precision
    assert torch.equal(kept["lens"], torch.cat([batch["lens"] for batch in pairs(3)]))
    assert load_latents(path, cache_key({"patch": 65})) is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:100])  # damaged: made anew, not an error
    assert load_latents(path, key) is None


def test_every_pair_once_an_epoch():
    mu = torch.arange(5.0).reshape(5, 1, 1, 1)
    stream = LatentPairs({"mu": mu.half(), "x0": -mu.half()}, seed=1)
    epochs = [[stream[e * 5 + i]["mu"].item() for i in range(5)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [0, 1, 2, 3, 4]
    assert epochs[0] != epochs[1]
    assert all(stream[i]["x0"].item() == -stream[i]["mu"].item() for i in range(5))


def test_weights_are_known_by_every_bit():
    weights = {"a": torch.zeros(3, 2), "b": torch.ones(2, dtype=torch.float16)}
    key = weights_key(weights)
    assert key == weights_key(dict(reversed(weights.items())))
    moved = weights | {"a": torch.tensor([[0, 0], [0, 1.4e-45], [0, 0]])}
    swapped = {"a": weights["b"], "b": weights["a"]}
    assert len({key, weights_key(moved), weights_key(swapped), weights_key({})}) == 4
