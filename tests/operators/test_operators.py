"""Laws of a linear operator with an SVD, for every operator, and what each does."""

import itertools
import math
import time

import pytest
import torch
from operator_cases import CASES, LOPSIDED, SHAKEN, draw, generator, mask

from refusion.errors import ConfigError, ImageError
from refusion.operators import (
    OPERATORS,
    BicubicDownsample,
    BlockMean,
    CircularBlur,
    Colorization,
    Dense,
    Identity,
    Inpainting,
    Separable,
    SeparableBlur,
    WalshHadamard,
    gaussian,
)
from refusion.operators.hadamard import walsh_hadamard
from refusion.operators.separable import bicubic_matrix, blur_matrix

SHAPE = (3, 12, 20)  # rectangular, no power of two


@pytest.fixture(params=CASES)
def case(request):
    make, truth = CASES[request.param]
    return make(SHAPE), truth


def close(a, b, tolerance=1e-12):
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance


def test_every_operator_is_tried():
    tried = {type(make(SHAPE)) for make, _ in CASES.values()}
    assert tried == set(OPERATORS.values())


def test_does_what_it_says(case):
    operator, truth = case
    x = draw(2, *SHAPE)
    y = operator.forward(x)
    assert tuple(y.shape) == (2, *operator.data_shape)
    if truth is not None:
        close(y, truth(x))


def test_the_transpose_is_adjoint(case):
    operator, _ = case
    x, y = draw(1, *SHAPE), draw(1, *operator.data_shape, seed=9)
    left, right = (operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum()
    close(left, right, 1e-11)


def test_v_is_orthogonal(case):
    operator, _ = case
    x, z = draw(2, *SHAPE), draw(2, *SHAPE, seed=8)
    spectrum = operator.to_spectrum(x)
    assert spectrum[0].numel() == x[0].numel()
    close(operator.from_spectrum(spectrum), x)
    close(operator.to_spectrum(operator.from_spectrum(spectrum)), spectrum)
    close((spectrum * operator.to_spectrum(z)).sum(), (x * z).sum(), 1e-10)


def test_u_has_orthonormal_columns_where_there_are_singular_values(case):
    operator, _ = case
    spectrum = operator.to_spectrum(draw(2, *SHAPE))
    assert operator.singulars.min() >= 0 and operator.singulars.dtype == torch.float64
    seen = (operator.singulars > 0) * spectrum
    y = operator.data_from_spectrum(seen)
    close(operator.data_to_spectrum(y), seen)
    close((y * y).sum(), (seen * seen).sum(), 1e-10)
    y = draw(2, *operator.data_shape, seed=9)
    assert not operator.data_to_spectrum(y)[(operator.singulars == 0).expand(spectrum.shape)].any()


def test_is_u_s_vt_as_a_dense_matrix(case):
    """Column by column, and the singular values are those that LAPACK finds."""
    operator, _ = case
    n = SHAPE[0] * SHAPE[1] * SHAPE[2]
    columns = operator.forward(torch.eye(n, dtype=torch.float64).unflatten(1, SHAPE))
    matrix = columns.flatten(1).T
    values = operator.singulars.expand(operator.to_spectrum(draw(1, *SHAPE)).shape[1:]).flatten()
    found = torch.linalg.svdvals(matrix)
    close(values.sort(descending=True).values[: len(found)], found)
    y = draw(1, *operator.data_shape, seed=9)
    expected = torch.linalg.pinv(matrix, rtol=1e-12) @ y.flatten()
    scale = float(expected.abs().max())
    close(operator.pinv(y).flatten(), expected, 1e-7 * scale)


def test_pseudo_inverse_by_penrose(case):
    operator, _ = case
    x = draw(1, *SHAPE)
    y = operator.forward(x)
    close(operator.forward(operator.pinv(y)), y, 1e-9)
    seen = operator.pinv(y)  # of all images with these data the smallest
    close(operator.pinv(operator.forward(seen)), seen, 1e-7)
    assert seen.norm() <= x.norm() * (1 + 1e-9)


def test_floor_takes_small_singular_values_for_none():
    operator = SeparableBlur(SHAPE, gaussian(1.0))
    noise = draw(1, *SHAPE)
    wild, tame = operator.pinv(noise), operator.pinv(noise, floor=0.1)
    assert wild.norm() > 5 * tame.norm()
    assert tame.norm() <= noise.norm() / 0.1


def test_float32_and_other_dtypes_follow_the_argument(case):
    operator, _ = case
    x = draw(1, *SHAPE)
    y = operator.forward(x.float())
    assert y.dtype == torch.float32
    scale = float(operator.forward(x).abs().max())
    close(y.double(), operator.forward(x), 3e-6 * scale)
    assert operator.adjoint(y).dtype == torch.float32


@pytest.mark.parametrize(
    "name", [name for name in CASES if not name.startswith(("dense", "separable"))]
)
def test_a_photo_of_512x768_takes_less_than_a_second(name):
    x = draw(1, 3, 512, 768).float()
    before = time.process_time()  # not what other programs take
    operator = CASES[name][0]((3, 512, 768))
    set_up = time.process_time() - before
    before = time.process_time()
    back = operator.adjoint(operator.forward(x))
    assert time.process_time() - before < 1
    assert set_up < 1 and back.shape == x.shape


def test_a_power_of_two_is_the_plain_transform_of_the_shuffled_pixels():
    operator = WalshHadamard((1, 4, 8), 1.0, generator())
    assert operator.parts == [32]
    x = draw(1, 1, 4, 8)
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(5):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    expected = x.flatten()[operator.order] @ matrix / 32**0.5
    close(operator.forward(x).flatten(), expected)
    close(walsh_hadamard(walsh_hadamard(x)), x)


@pytest.mark.parametrize(("share", "kept"), [(0.3, [5, 3, 1]), (1e-9, [1, 1, 1]), (1, [16, 8, 1])])
def test_each_part_keeps_its_share_rounded_up(share, kept):
    """5 x 5 pixels are parts of 16, 8 and 1; the first coefficient of a part is its mean."""
    operator = WalshHadamard((2, 5, 5), share, generator())
    assert operator.parts == [16, 8, 1]
    parts = operator.singulars.split(operator.parts)
    assert [int(part.sum()) for part in parts] == kept
    assert all(bool(part[: int(part.sum())].all()) for part in parts)
    assert operator.data_shape == (2, sum(kept))


def test_rounding_errors_are_not_singular_values():
    """Otherwise the pseudo-inverse divides by them."""
    for name, rank in (("separable of low rank", 3 * 3 * 7), ("dense of low rank", 9)):
        operator = CASES[name][0](SHAPE)
        count = operator.singulars.expand(operator.to_spectrum(draw(1, *SHAPE)).shape[1:])
        assert int((count > 0).sum()) == rank
        y = draw(1, *operator.data_shape, seed=9)
        assert float(operator.pinv(y).abs().max()) < 1e3 * float(y.abs().max())
    box = CASES["box"][0](SHAPE)
    assert int((box.singulars == 0).sum()) == 4 * 12  # frequencies 4, 8, 12 and 16 of 20


def test_the_share_is_measured_and_the_generator_alone_decides():
    make = [WalshHadamard((3, 33, 50), 0.25, generator(seed)) for seed in (1, 1, 2)]
    x = draw(1, 3, 33, 50)
    assert make[0].data_shape[1] / (33 * 50) == pytest.approx(0.25, abs=0.005)
    close(make[0].forward(x), make[1].forward(x))
    assert not torch.allclose(make[0].forward(x), make[2].forward(x))


@pytest.mark.parametrize("border", ["reflect", "zero"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_kernel_may_be_longer_than_the_image(length, border):
    """A mirrored image has no end; beyond an image of one pixel there is only this pixel."""
    kernel = draw(7, seed=3)
    matrix = blur_matrix(length, kernel, border)
    expected = torch.zeros(length, length, dtype=torch.float64)
    for i, (tap, weight) in itertools.product(range(length), enumerate(kernel)):
        j = i - (tap - 3)
        if border == "zero" and not 0 <= j < length:
            continue
        while not 0 <= j < length:
            j = 0 if length == 1 else -j if j < 0 else 2 * (length - 1) - j
        expected[i, j] += weight
    close(matrix, expected)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 2.4, 100])
def test_gaussian_kernel(sigma):
    kernel = gaussian(sigma)
    radius = math.ceil(3.5 * sigma)
    assert kernel.shape == (2 * radius + 1,)
    close(kernel.sum(), torch.ones((), dtype=torch.float64))
    expected = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / sigma) ** 2)
    close(kernel / kernel[radius], expected)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_keeps_flat_and_sloping_images(factor):
    matrix = bicubic_matrix(60, factor)
    close(matrix.sum(dim=1), torch.ones(60 // factor, dtype=torch.float64))
    ramp = torch.arange(60, dtype=torch.float64)
    inner = (matrix @ ramp)[3:-3]
    expected = torch.arange(60 // factor) * factor + (factor - 1) / 2
    close(inner, expected[3:-3].double())


def test_a_lopsided_kernel_shifts_as_convolution_does():
    x = torch.zeros(1, 3, 12, 20, dtype=torch.float64)
    x[..., 6, 9] = 1
    line = SeparableBlur(SHAPE, LOPSIDED, torch.ones(1)).forward(x)[0, 0, :, 9]
    close(line[4:9], LOPSIDED)
    close(CircularBlur(SHAPE, SHAKEN).forward(x)[0, 1, 4:9, 8:11], SHAKEN)


BAD = [
    (lambda: Identity((3, 0, 4)), "Identity.image_shape: expected (C, H, W), each from 1, got"),
    (lambda: Inpainting(SHAPE, mask((12, 19))), "kept: expected a bool mask of (12, 20)"),
    (lambda: Inpainting(SHAPE, mask((12, 20)).float()), "torch.float32 of (12, 20)"),
    (lambda: Inpainting(SHAPE, mask((12, 20)) & False), "keeps no pixel"),
    (lambda: BlockMean(SHAPE, 8), "BlockMean.factor: expected a whole number that divides both"),
    (lambda: BicubicDownsample(SHAPE, 0), "12 x 20, got 0"),
    (lambda: Colorization(SHAPE, (1, 1)), "Colorization.weights: expected 3 numbers"),
    (lambda: Colorization(SHAPE, (0, 0, 0)), "not all 0"),
    (lambda: WalshHadamard(SHAPE, 0, generator()), "WalshHadamard.share: expected above 0"),
    (lambda: SeparableBlur(SHAPE, torch.ones(4)), "kernel: expected an odd number of values"),
    (lambda: SeparableBlur(SHAPE, torch.zeros(3)), "SeparableBlur.down: is 0 or not finite"),
    (lambda: SeparableBlur(SHAPE, torch.ones(3), border="wrap"), "SeparableBlur.border"),
    (lambda: gaussian(0), "sigma: expected a blur of 0.01 to 100 pixels, got 0"),
    (lambda: CircularBlur(SHAPE, torch.ones(13, 3)), "no larger than the image, 20x12, got 3x13"),
    (lambda: CircularBlur(SHAPE, torch.ones(2, 3)), "kernel: expected odd sides"),
    (lambda: CircularBlur(SHAPE, torch.zeros(3, 3)), "kernel: is 0 or not finite"),
    (lambda: Separable(SHAPE, torch.ones(3, 9), torch.ones(2, 20)), "Separable.down: expected"),
    (lambda: Dense(SHAPE, torch.ones(3, 9)), "Dense.matrix: expected 720 columns"),
    (lambda: Dense(SHAPE, torch.zeros(3, 720)), "Dense.matrix: is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD)
def test_refusals_name_the_argument(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_other_sizes_are_refused():
    operator = BlockMean(SHAPE, 4)
    with pytest.raises(ImageError, match=r"x: expected shape \(B, 3, 12, 20\) for this BlockMean"):
        operator.forward(draw(1, 3, 12, 21))
    with pytest.raises(ImageError, match=r"y: expected shape \(B, 3, 3, 5\)"):
        operator.pinv(draw(1, 3, 12, 20))
