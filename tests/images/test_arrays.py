"""Images of every kind give what the batch would give, and come back as the kind they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import refusion
from refusion.errors import ImageError
from refusion.images.arrays import from_batch, to_batch, unit_range
from refusion.restorers import ArrayRestorer

RNG = np.random.default_rng(0)
ARRAYS = {
    "uint8": RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8),
    "uint16": RNG.integers(0, 65536, (12, 17, 3), dtype=np.uint16),
    "float32": RNG.random((12, 17, 3), dtype=np.float32),
    "float64": RNG.random((12, 17, 3)),
    "bgr view": RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)[..., ::-1],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back_as_they_were(array):
    array.flags.writeable = False  # a copy is taken, without a warning
    batch = to_batch("image", array)
    assert batch.shape == (1, 3, 12, 17)
    assert batch[0, 2, 3, 4].item() == array[3, 4, 2]
    back = from_batch(batch, array)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    full = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    assert np.allclose(unit_range(batch)[0].permute(1, 2, 0).numpy(), array / full)


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint):
    return refusion.load_restorer(tiny_checkpoint(), device="cpu", precision="fp32")


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_restoring_an_array_is_restoring_its_batch(restorer, array):
    result = restorer(array, seed=3)
    assert (result.shape, result.dtype) == (array.shape, array.dtype)
    full = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    batch = torch.from_numpy((array / full).astype(np.float32)).permute(2, 0, 1)[None]
    expected = restorer.restore(batch, seed=3)[0].permute(1, 2, 0).numpy()
    assert np.allclose(result / full, expected, atol=0.51 / full if full > 1 else 1e-6)


def test_tensors_keep_their_layout(restorer):
    one = torch.from_numpy(ARRAYS["uint8"].copy()).permute(2, 0, 1)
    result = restorer(one)
    assert (result.shape, result.dtype) == (one.shape, torch.uint8)
    assert torch.equal(restorer(torch.stack([one, one]))[1], result)
    assert torch.equal(restorer(one, strength=0), one)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(4), np.zeros((3, 9, 9)), np.zeros((4, 4, 3), np.int32), torch.zeros(9, 9, 3),
     torch.zeros(3, 4, 4, dtype=torch.int64), "photo.jpg"],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_image_is_named(restorer, wrong):
    with pytest.raises(ImageError, match=r"image: expected an array \(H, W, 3\)"):
        restorer(wrong)


def test_measure_takes_any_kind():
    image, target = ARRAYS["uint8"], np.clip(ARRAYS["uint8"].astype(int) + 9, 0, 255)
    target = target.astype(np.uint8)
    scores = refusion.metrics.measure(image, target)
    mse = np.mean((image / 255 - target / 255) ** 2)
    assert scores["psnr"] == pytest.approx(-10 * np.log10(mse), abs=1e-4)
    mixed = refusion.metrics.measure(torch.from_numpy(image / 255).permute(2, 0, 1), target)
    assert mixed == pytest.approx(scores)
    with pytest.raises(ImageError, match="target: expected the image's shape"):
        refusion.metrics.measure(image, target[:5])


def test_evaluate_takes_arrays(restorer):
    pair = {"lq": ARRAYS["uint8"], "gt": ARRAYS["float32"], "name": "x"}
    row = refusion.evaluate(restorer, [pair], metrics=refusion.metrics.reported_metrics()).rows[0]
    assert row.input == pytest.approx(refusion.metrics.measure(pair["lq"], pair["gt"]))


def test_options_are_named_and_the_restorer_says_what_it_is(restorer):
    with pytest.raises(TypeError, match="strenght"):
        restorer(ARRAYS["uint8"], strenght=0.5)
    assert repr(restorer).startswith("ArrayRestorer(task='dehaze', family='Refusion', sampler=")
    assert "device='cpu', precision='fp32'" in repr(restorer)
    moved = restorer.to("cpu", "bf16")
    assert (moved.info.precision, restorer.info.precision) == ("bf16", "fp32")
    assert torch.equal(
        restorer.to("cpu", "fp32").restore(torch.full((1, 3, 9, 9), 0.3)),
        restorer.restore(torch.full((1, 3, 9, 9), 0.3)),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_and_alpha_are_kept(restorer, dtype):
    full = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    gray = (RNG.random((12, 17)) * full).astype(dtype)
    alpha = (RNG.random((12, 17)) * full).astype(dtype)
    colour = restorer(np.repeat(gray[..., None], 3, axis=2))
    weights = np.array([0.299, 0.587, 0.114])
    expected = (colour / full) @ weights
    for image in (gray, gray[..., None], np.stack([gray, alpha], axis=2)):
        result = restorer(image)
        assert (result.shape, result.dtype) == (image.shape, image.dtype)
        luma = result if image.ndim == 2 else result[..., 0]
        assert np.allclose(luma / full, expected, atol=0.51 / full if full > 1 else 1e-6)
        if image.ndim == 3 and image.shape[2] == 2:
            assert np.array_equal(result[..., 1], alpha)
    rgba = np.dstack([np.repeat(gray[..., None], 3, axis=2), alpha])
    result = restorer(rgba)
    assert np.array_equal(result[..., :3], colour) and np.array_equal(result[..., 3], alpha)
    tensor = torch.from_numpy(rgba.copy()).permute(2, 0, 1)
    assert torch.equal(restorer(tensor).permute(1, 2, 0), torch.from_numpy(result))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_images_come_back_as_they_were(restorer, mode):
    image = Image.fromarray(ARRAYS["uint8"]).convert(mode)
    image.info["icc_profile"] = b"profile"
    result = restorer(image)
    assert (result.mode, result.size) == (image.mode, image.size)
    assert result.info["icc_profile"] == b"profile"
    assert np.array_equal(np.asarray(result), restorer(np.asarray(image)))


def test_other_modes_of_pillow_are_named(restorer):
    with pytest.raises(ImageError, match=r"mode L, LA, RGB, RGBA, got CMYK; convert it"):
        restorer(Image.new("CMYK", (4, 4)))


def test_alpha_and_gray_follow_a_larger_result(tiny_checkpoint):
    restorer = refusion.load_restorer(tiny_checkpoint("sr"), device="cpu", precision="fp32")
    scale, alpha = restorer.info.scale, np.zeros((12, 17), np.uint8)
    alpha[:, 8:] = 200  # an edge, which bilinear interpolation makes a ramp
    result = restorer(np.dstack([ARRAYS["uint8"], alpha]))
    assert result.shape == (12 * scale, 17 * scale, 4)
    expected = np.asarray(Image.fromarray(alpha).resize((17 * scale, 12 * scale), Image.BILINEAR))
    assert np.abs(result[..., 3].astype(int) - expected).max() <= 1
    assert len(np.unique(expected)) > 2
    gray = restorer(ARRAYS["uint8"][..., 0])
    assert gray.shape == (12 * scale, 17 * scale)


@pytest.mark.parametrize("value", [np.nan, 200.0, -0.1])
def test_alpha_out_of_range_is_refused(restorer, value):
    image = np.full((4, 5, 4), 0.5)
    image[0, 0, 3] = value
    with pytest.raises(ImageError, match="image: alpha: expected finite values in"):
        restorer(image)


def test_alpha_of_doubles_is_exact(restorer):
    image = RNG.random((4, 5, 4))
    assert np.array_equal(restorer(image)[..., 3], image[..., 3])


@pytest.mark.parametrize("dtype", [">f4", ">u2", np.longdouble])
def test_dtypes_that_torch_lacks_are_named(restorer, dtype):
    with pytest.raises(ImageError, match="image: expected an array"):
        restorer(np.zeros((4, 5, 3), dtype))


class Colours:
    """Gives a gray photo colours."""

    def __init__(self, info, *, colours):
        self.info = replace(info, colours=colours)

    def restore(self, lq, **options):
        return torch.cat([lq[:, :1], 1 - lq[:, 1:2], lq[:, 2:]], dim=1)


@pytest.mark.parametrize("colours", [False, True])
def test_colours_of_a_gray_image_are_kept_where_the_model_adds_them(restorer, colours):
    coloured = ArrayRestorer(lambda *_: Colours(restorer.info, colours=colours))
    gray = RNG.random((4, 5))
    assert coloured(gray).shape == ((4, 5, 3) if colours else (4, 5))
    image = Image.new("LA", (5, 4), (90, 120))
    image.info["icc_profile"] = b"gray"
    with_alpha = coloured.to("cpu")
    with_alpha._restorer.restore = lambda lq, **_: lq
    result = with_alpha(image)
    assert (result.mode, "icc_profile" in result.info) == (
        ("RGBA", False) if colours else ("LA", True)
    )


def test_a_stereo_pair_is_an_array_of_six_channels(tiny_checkpoint):
    restorer = refusion.load_restorer(tiny_checkpoint("stereo"), device="cpu", precision="fp32")
    pair = np.dstack([ARRAYS["uint8"], ARRAYS["uint8"][::-1]])
    assert restorer(pair).shape == (12, 17, 6)
    with pytest.raises(ImageError, match=r"expected an array \(H, W, 6\)"):
        restorer(ARRAYS["uint8"])
