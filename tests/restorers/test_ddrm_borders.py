"""Deblurring of photos that continue beyond their borders in an unknown way."""

import pytest
import torch
import torch.nn.functional as F
from ddrm_cases import ALPHA_BAR, normal

from refusion.operators import CircularBlur, gaussian
from refusion.restorers import DDRM
from refusion.restorers.ddrm.borders import continue_data
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import deblur, gaussian_deblur
from refusion.restorers.ddrm.sampling import DDRMSettings

MOTION = torch.zeros(5, 9).double()
MOTION[[0, 1, 2, 2, 3, 4], [0, 2, 3, 4, 6, 8]] = 1 / 6
BOX = torch.ones(1, 9).double() / 9
KERNELS = {"motion": MOTION, "box": BOX, "gauss": None}


def scene(height, width, seed=0):
    """A smooth scene with edges and a brightness that rises to the right, (1, 3, H, W) float64."""
    rough = F.avg_pool2d(normal(1, 3, height + 8, width + 8, seed=seed), 9, 1)
    steps = 0.3 * (normal(1, 3, height // 8 + 1, width // 8 + 1, seed=seed + 1) > 0)
    steps = F.interpolate(steps, scale_factor=8)[..., :height, :width]
    return 0.25 + 0.1 * rough + steps + 0.3 * torch.linspace(0, 1, width).double()


def blurred(kernel, height=48, width=64):
    """The scene in the middle, what a camera shows of it with light from beyond, and the margin."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    wide = scene(height + 2 * rows, width + 2 * columns)
    y = F.conv2d(wide.transpose(0, 1), kernel.flip(0, 1)[None, None]).transpose(0, 1)
    return wide[..., rows : rows + height, columns : columns + width], y, (rows, columns)


def gray_prior():
    """A prior with independent pixels N(0, 1/4) in [-1, 1] units."""

    def predict(xt, t):
        a = float(ALPHA_BAR[t])
        return xt * (1 - a) ** 0.5 / (0.25 * a + 1 - a)

    return Prior(predict, ALPHA_BAR, None, 20, torch.device("cpu"), "fp32")


def rms(difference):
    return float(difference.square().mean().sqrt())


def errors(problem, kernel, sigma=0.005):
    """RMSE of the restored photo within 8 pixels of its borders, and farther inside."""
    truth, y, _ = blurred(kernel)
    y = (y + sigma * normal(*y.shape, seed=5)).clamp(0, 1)
    settings = DDRMSettings(steps=12, estimate="mean")
    found = DDRM(gray_prior(), problem, sigma, settings).restore(y)
    assert found.shape == truth.shape
    inside = torch.zeros(truth.shape[-2:], dtype=torch.bool)
    inside[8:-8, 8:-8] = True
    return rms((found - truth)[..., ~inside]), rms((found - truth)[..., inside])


@pytest.mark.parametrize("name", KERNELS)
def test_photos_of_cameras_have_no_stripes(name):
    problem = gaussian_deblur(1.0) if name == "gauss" else deblur(KERNELS[name])
    kernel = gaussian(1.0).outer(gaussian(1.0)) if name == "gauss" else KERNELS[name]
    border, inside = errors(problem, kernel)
    assert border < 2 * inside
    periodic_border, periodic_inside = errors(deblur(kernel, "periodic"), kernel)
    assert border < 0.6 * periodic_border and inside < periodic_inside


def test_the_known_data_stay_and_the_others_agree_with_a_photo():
    truth, y, (rows, columns) = blurred(MOTION)
    operator = CircularBlur((3, 52, 72), MOTION)
    data = continue_data(y, operator, (rows, columns))
    assert data.shape == (1, 3, 52, 72)
    assert torch.equal(data[..., rows:-rows, columns:-columns], y)

    def linear(values):
        s = operator.singulars
        spectrum = operator.data_to_spectrum(values - y.mean()) * s / (s**2 + 0.01)
        return operator.from_spectrum(spectrum) + y.mean()

    start = F.pad(y, (columns, columns, rows, rows), mode="reflect")
    inner = (..., slice(rows, -rows), slice(columns, -columns))
    error = rms(linear(data)[inner] - truth)
    assert error < 0.5 * rms(linear(start)[inner] - truth)
    assert error < rms(y - truth)


def test_data_continue_in_all_colours_and_each_photo_by_itself():
    _, y, margin = blurred(MOTION, 20, 24)
    operator = CircularBlur((3, 24, 32), MOTION)
    pair = torch.cat([y, 1 - y.flip(-1)])
    both = continue_data(pair, operator, margin)
    for k in range(2):
        alone = continue_data(pair[k : k + 1], operator, margin)
        torch.testing.assert_close(both[k : k + 1], alone)
    flat = continue_data(torch.full_like(y, 0.3), operator, margin)
    torch.testing.assert_close(flat, torch.full_like(both[:1], 0.3))
    tinted = y * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(
        continue_data(tinted, operator, margin),
        both[:1] * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1),
    )


@pytest.mark.parametrize("size", [(13, 9), (16, 31), (40, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("estimate", ["mean", "sample"])
def test_photos_of_any_size_keep_it(size, dtype, estimate):
    problem = deblur(MOTION)
    lq = blurred(MOTION, *size)[1].float()
    lq = lq if dtype == torch.float32 else (lq * 255).round().to(dtype)
    restorer = DDRM(gray_prior(), problem, 0.02, DDRMSettings(steps=4, estimate=estimate))
    result = restorer.restore(lq)
    assert result.shape == lq.shape and result.dtype == dtype
    tiles = restorer.restore(lq, tile=16)
    tolerance = 1e-3 if dtype.is_floating_point else 1
    assert float((tiles.double() - result.double()).abs().max()) <= tolerance


def test_periodic_photos_are_exact_where_they_are_told_to_be():
    truth = scene(24, 32)
    problem = deblur(MOTION, "periodic")
    assert problem.margin == (0, 0)
    operator = problem.operator((3, 24, 32))
    y = operator.forward(truth).clamp(0, 1)
    settings = DDRMSettings(steps=12, estimate="mean")
    found = DDRM(gray_prior(), problem, 0.0, settings).restore(y)
    assert rms(operator.forward(found) - y) < 1e-3


def test_guessed_data_are_not_amplified_unless_asked_for():
    y = blurred(MOTION)[1]
    found = {
        floor: DDRM(
            gray_prior(),
            deblur(MOTION),
            0.0,
            DDRMSettings(steps=2, estimate="mean", floor=floor),
        ).restore(y)
        for floor in (None, 0.03, 0.0)
    }
    assert torch.equal(found[None], found[0.03])
    assert not torch.equal(found[None], found[0.0])


def test_without_noise_the_result_agrees_with_the_photo():
    """Where no light comes from beyond the borders, the blurred result is the photo."""
    _, y, (rows, columns) = blurred(MOTION)
    settings = DDRMSettings(steps=12, estimate="mean", floor=1e-3)
    found = DDRM(gray_prior(), deblur(MOTION), 0.0, settings).restore(y)
    again = F.conv2d(found.double().transpose(0, 1), MOTION.flip(0, 1)[None, None]).transpose(0, 1)
    assert rms(again - y[..., rows:-rows, columns:-columns]) < 0.01
