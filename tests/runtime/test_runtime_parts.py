"""The parts of the runtime do with arrays what other packages do with tensors."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import refusion.runtime
from refusion.errors import ImageError
from refusion.images import noise_level as tensor_noise_level
from refusion.images.resize import shrink as shrink_tensor
from refusion.restorers.contract import FLAT, STRUCTURED
from refusion.restorers.contract import structure as tensor_structure
from refusion.restorers.refusion import shadow_likeness as tensor_likeness
from refusion.restorers.refusion.hysteresis import DARK, RADIUS, SIDE
from refusion.restorers.refusion.hysteresis import keep_strong_changes as keep_tensors
from refusion.runtime.change import keep_strong_changes
from refusion.runtime.guided import guided_bands, guided_filter
from refusion.runtime.noise import noise_field, standard_normal
from refusion.runtime.noise_level import estimate_noise_std
from refusion.runtime.resizing import shrink
from refusion.runtime.samples import check_photo, structure
from refusion.runtime.tiles import blend_tiles, grid_windows
from refusion.sde import SeededNoise
from refusion.tiling import blending, guided

SHADOW = {
    name: getattr(tensor_likeness, name.upper())
    for name in ("around", "bright", "darkest", "reach", "least", "clear", "weakness", "eps")
}
NOISE = {
    name: getattr(tensor_noise_level, name.upper())
    for name in ("block", "most_blocks", "smooth_share", "coarse_share", "flat", "most_flat",
                 "penalty")
}  # fmt: skip


def photo(height, width, seed=0, dtype=np.uint8):
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (5 + k)) * np.cos(columns / (7 + k)) for k in range(3)]
    values = 0.5 + 0.3 * np.stack(waves) + 0.02 * rng.normal(size=(3, height, width))
    full = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    return (values.clip(0, 1) * full).astype(dtype)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))[None]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(90, 133), (400, 41), (300, 20)])
def test_shrink(size, dtype):
    image = photo(*size, dtype=dtype)
    expected = shrink_tensor(tensor(image), 37)[0].numpy()
    found = shrink(image, 37)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


def test_guided_filter():
    value, image = photo(30, 44, 1)[:1] / 255, photo(30, 44) / np.float32(255)
    expected = guided.guided_filter(tensor(value).float(), tensor(image), 5, 0.05)[0].numpy()
    assert np.abs(guided_filter(value, image, 5, 0.05) - expected).max() < 1e-4


def test_guided_transfer():
    large = photo(260, 700)
    copy = shrink(large, 40)
    value, smooth = copy[:2] ** 2, 1 - copy
    bands = guided.guided_upsample_bands(
        tensor(value), tensor(copy), tensor(large), smooth=tensor(smooth)
    )
    expected = torch.cat([band for _, band in bands], dim=-2)[0].numpy()
    found = list(guided_bands(value, copy, large, guided.WINDOW, guided.SMOOTHNESS, smooth))
    assert len(found) > 1 and found[-1][0].stop == 260
    assert np.abs(np.concatenate([band for _, band in found], 1) - expected).max() < 1e-4


@pytest.mark.parametrize("place", [(90, 120), (3, 305)])  # in the middle, and at the border
@pytest.mark.parametrize("strength", [0.1, 0.6])
def test_weak_changes_are_undone(strength, place):
    before = photo(230, 310, dtype=np.float32)
    rows, columns = np.mgrid[:230, :310]
    spot = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 900) * strength
    after = (before * (1 + spot + 0.04)).astype(np.float32)
    expected = keep_tensors(tensor(before), tensor(after), (0.06, 0.4))[0].numpy()
    change = {"limits": [0.06, 0.4], "side": SIDE, "radius": RADIUS, "dark": DARK}
    found = keep_strong_changes(before, after, change)
    assert np.abs(found - expected).max() < 1e-5
    assert np.array_equal(found, before) == (strength < 0.4)


@pytest.mark.parametrize("low", [0.2, 0.6, 1.0, 2.0])
def test_regions_are_judged_as_shadows(low):
    """A shadow and a dark thing; the limits go from where neither stays to where both stay."""
    before = photo(230, 310, dtype=np.float32) * np.float32(0.2) + np.float32(0.5)
    after, rows, columns = before.copy(), *np.mgrid[:230, :310]
    shade = (rows - 60) ** 2 + (columns - 80) ** 2 < 40**2
    thing = (abs(rows - 160) < 40) & (abs(columns - 230) < 60)
    before[:, shade] *= np.float32(0.4)
    before[:, thing] *= np.float32(0.1)
    after[:, thing] = (before * (1 + columns / 100))[:, thing]
    limits = (low, low + 0.5)
    expected = keep_tensors(tensor(before), tensor(after), (0.1, 0.4), limits)[0].numpy()
    change = {"limits": [0.1, 0.4], "side": SIDE, "radius": RADIUS, "dark": DARK}
    change["shadow"] = {"limits": list(limits)} | SHADOW
    found = keep_strong_changes(before, after, change)
    assert np.abs(found - expected).max() < 1e-4
    del change["shadow"]
    without = keep_strong_changes(before, after, change)
    assert (np.abs(found - without).max() > 0.05) == (low < 2)


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 7, 11), (1, 4, 4), (4, 5, 5)])
@pytest.mark.parametrize("time", [None, 100, 32.75])
def test_noise_is_that_of_pytorch(shape, time):
    like, source = torch.zeros(1, *shape), SeededNoise(17)
    expected = source.initial(like) if time is None else source.step(time, like)
    assert np.abs(noise_field(17, time, shape) - expected[0].numpy()).max() < 1e-5


def test_few_numbers_are_normal():
    assert np.isfinite(standard_normal(1, 3)).all() and len(standard_normal(1, 3)) == 3


@pytest.mark.parametrize("size", [(64, 80), (7, 9), (3, 50), (601, 440)])
@pytest.mark.parametrize("framed", [False, True])
def test_noise_level(size, framed):
    image = photo(*size, seed=3)
    if framed:
        image[:, : size[0] // 4] = 255
    expected = tensor_noise_level.estimate_noise_std(tensor(image)).item()
    assert abs(estimate_noise_std(image, NOISE) - expected) < 1e-6


@pytest.mark.parametrize("size", [(100, 70), (101, 33), (16, 300), (9, 9), (2000, 3000)])
@pytest.mark.parametrize(("tile", "align"), [(32, 8), (32, 16), (8, 8), (9, 1), (1024, 16)])
def test_grid_windows(size, tile, align):
    found, expected = (each(*size, tile, align) for each in (grid_windows, blending.grid_windows))
    for axis, same in zip(found, expected, strict=True):
        assert [start for start, _ in axis] == [start for start, _ in same]
        assert all(np.array_equal(a, b.numpy()) for (_, a), (_, b) in zip(axis, same, strict=True))


def test_blended_tiles():
    image = photo(70, 95, dtype=np.float32)

    def network(x, y):  # depends on the whole tile
        return x * 2 + y.mean()

    expected = blending.blend_tiles(network, tensor(image), tensor(image), 40, 8)[0].numpy()
    assert np.abs(blend_tiles(network, [image, image], 40, 8) - expected).max() < 1e-5


@pytest.mark.parametrize("span", [0, 8, 15, 24, 200])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_structure(span, dtype):
    image = np.full((3, 600, 4), 20, np.uint8)
    image[1, 550] += np.uint8(span)
    image = image if dtype == np.uint8 else image / np.float32(255)
    expected = tensor_structure(tensor(image)).item()
    assert structure(image, FLAT, STRUCTURED) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([1, 2], "got list"),
        (np.zeros((4, 5), np.uint8), "three channels"),
        (np.zeros((3, 0, 5), np.uint8), "three channels"),
        (np.zeros((3, 4, 5), np.int32), "got int32"),
        (np.full((3, 4, 5), 1.5), "finite values"),
        (np.full((3, 4, 5), np.nan), "finite values"),
    ],
)
def test_wrong_photos_are_refused(image, message):
    with pytest.raises(ImageError, match=message):
        check_photo(image)


def test_the_runtime_never_imports_torch():
    for path in Path(refusion.runtime.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [getattr(node, "module", None) or ""]
            assert not any(str(name).split(".")[0] == "torch" for name in names), path
