"""LPIPS, DISTS, FID and NIQE against their definitions, written out here, with random weights.

The published weights are not part of the suite; what is checked is that files with their names and
shapes are read and that the formulas are those of the papers.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refusion.errors import CheckpointError, ConfigError, ImageError
from refusion.metrics.dists import Dists
from refusion.metrics.fid import frechet_distance
from refusion.metrics.inception import FEATURES, Inception
from refusion.metrics.lpips import Lpips, LpipsDistance
from refusion.metrics.niqe import Niqe, features, fit_asymmetric
from refusion.metrics.weights import fill

ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
VGG_TAPS = [3, 8, 15, 22, 29]  # the ReLUs that LPIPS compares
VGG_WIDTHS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def drawn(*shape, scale=1.0):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator) * scale


def convolution(number, after, before, kernel):
    scale = math.sqrt(2 / (before * kernel**2))
    weight = drawn(after, before, kernel, kernel, scale=scale)
    return {f"features.{number}.weight": weight, f"features.{number}.bias": drawn(after) * 0.1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weight files with the names, shapes and leftovers of the published ones."""
    folder = tmp_path_factory.mktemp("learned")
    alex = {"classifier.1.weight": torch.zeros(2)}
    for number, shape in ALEX.items():
        alex |= convolution(number, *shape)
    lin = {
        f"lin{n}.model.1.weight": drawn(1, shape[0], 1, 1).abs()
        for n, shape in enumerate(ALEX.values())
    }
    vgg = {}
    for number, before, after in zip(VGG, VGG_WIDTHS, VGG_WIDTHS[1:], strict=False):
        vgg |= convolution(number, after, before, 3)
    tapped = [VGG_WIDTHS[VGG.index(number - 1) + 1] for number in VGG_TAPS]
    lin_vgg = {
        f"lin{n}.model.1.weight": drawn(1, width, 1, 1).abs() for n, width in enumerate(tapped)
    }
    weights = {name: drawn(1, 1475, 1, 1).abs() + n for n, name in enumerate(("alpha", "beta"))}
    contents = {"alex": alex, "lin": lin, "vgg": vgg, "lin_vgg": lin_vgg, "dists": weights}
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pth")
    return {name: (folder / f"{name}.pth") for name in contents}


def pair(height=70, width=83):
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 3, height, width, generator=generator)
    return image, (image + 0.2 * torch.rand(image.shape, generator=generator)).clamp(0, 1)


def alexnet_taps(x, weights):
    """Outputs of the five ReLUs."""
    for layer, (number, padding) in enumerate(zip(ALEX, (2, 2, 1, 1, 1), strict=True)):
        if layer in (1, 2):
            x = F.max_pool2d(x, 3, 2)
        weight, bias = (weights[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, 4 if layer == 0 else 1, padding).relu()
        yield x


def vgg_taps(x, weights):
    """Outputs of the last ReLU of each stage."""
    for number in VGG:
        if number in (5, 10, 17, 24):
            x = F.max_pool2d(x, 2)
        weight, bias = (weights[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding=1).relu()
        if number + 1 in VGG_TAPS:
            yield x


LPIPS = {"alex": ("alex", "lin", alexnet_taps), "vgg": ("vgg", "lin_vgg", vgg_taps)}


def lpips_by_hand(files, network, image, target):
    name, lin, taps = LPIPS[network]
    weights, lins = (torch.load(files[file]) for file in (name, lin))
    scaled = (
        (2 * x - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        for x in (image, target)
    )
    total = 0
    for layer, pair_of_taps in enumerate(zip(*(taps(x, weights) for x in scaled), strict=True)):
        unit = [tap / (tap.square().sum(1, keepdim=True).sqrt() + 1e-10) for tap in pair_of_taps]
        each = (unit[0] - unit[1]) ** 2 * lins[f"lin{layer}.model.1.weight"]
        total = total + each.sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize("network", LPIPS)
def test_lpips_is_its_definition(files, network):
    image, target = pair()
    total = lpips_by_hand(files, network, image, target)
    lpips = Lpips(*(files[name] for name in LPIPS[network][:2]), network)
    assert lpips(image, target).tolist() == pytest.approx(total.tolist(), rel=1e-4)
    assert lpips(image, image).tolist() == [0, 0]
    inside = [x[..., 2:-2, 2:-2] for x in (image, target)]
    assert lpips(image, target, crop_border=2).tolist() == pytest.approx(lpips(*inside).tolist())
    least = {"alex": 31, "vgg": 16}[network]
    assert lpips(image[..., :least, :least], target[..., :least, :least]).min() > 0
    with pytest.raises(ImageError, match=f"at least {least} pixels per side, got {least}x"):
        lpips(image[..., : least - 1, :least], target[..., : least - 1, :least])
    with pytest.raises(ConfigError, match="LPIPS is defined on rgb"):
        lpips(image, target, channel="y")


def test_lpips_can_be_minimised(files):
    """The slope in the image is that of the definition, and finite where features are all 0."""
    distance = LpipsDistance(files["vgg"], files["lin_vgg"], "vgg")
    image, target = (x[..., :24, :16] for x in pair())
    image.requires_grad_()
    (slope,) = torch.autograd.grad(distance(image, target).sum(), image)
    expected = torch.autograd.grad(lpips_by_hand(files, "vgg", image, target).sum(), image)[0]
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-6)
    assert not any(p.requires_grad for p in distance.parameters())
    with torch.no_grad():
        distance.features[28].bias.fill_(-1e6)  # nothing is left of the last stage
    (slope,) = torch.autograd.grad(distance(image, target).sum(), image)
    assert torch.isfinite(slope).all()


def test_dists_is_its_definition(files):
    image, target = (x[:1, :, :40, :48] for x in pair())
    vgg, weights = (torch.load(files[name]) for name in ("vgg", "dists"))
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    hann = torch.from_numpy(np.hanning(5)[1:-1]).float()
    window = torch.outer(hann, hann) / hann.sum() ** 2

    def stages(x):
        yield x
        x = (x - mean) / std
        for number in VGG:
            if number in (5, 10, 17, 24):
                blurred = F.conv2d(x.transpose(0, 1) ** 2, window[None, None], None, 2, 1)
                x = (blurred.transpose(0, 1) + 1e-12).sqrt()
            names = (f"features.{number}.weight", f"features.{number}.bias")
            x = F.conv2d(x, *(vgg[name] for name in names), padding=1).relu()
            if number in (2, 7, 14, 21, 28):
                yield x

    score, start = 1.0, 0
    total = sum(float(value.double().sum()) for value in weights.values())
    for a, b in zip(stages(image), stages(target), strict=True):
        for channel in range(a.shape[1]):
            x, y = (one[0, channel].double().numpy() for one in (a, b))
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            structure = (2 * covariance + 1e-6) / (x.var() + y.var() + 1e-6)
            alpha, beta = (float(weights[k].flatten()[start]) for k in ("alpha", "beta"))
            score -= (alpha * texture + beta * structure) / total
            start += 1
    dists = Dists(files["vgg"], files["dists"])
    assert dists(image, target).item() == pytest.approx(score, abs=1e-5)
    assert dists(image, image).item() == pytest.approx(0, abs=1e-6)


def test_missing_and_wrong_files_say_where_to_get_them(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing is downloaded here; get alexnet-owt"):
        Lpips(tmp_path / "absent.pth", files["lin"])
    with pytest.raises(CheckpointError, match=r"tensor 'features.0.weight' is missing or has"):
        Lpips(files["lin"], files["lin"])
    with pytest.raises(CheckpointError, match=r"absent.*vgg16-397923af.*v0\.1/vgg\.pth"):
        Lpips(tmp_path / "absent.pth", files["lin"], "vgg")
    with pytest.raises(CheckpointError, match=r"tensor 'lin1\.model\.1\.weight' is missing or has"):
        Lpips(files["vgg"], files["lin"], "vgg")
    with pytest.raises(CheckpointError, match="tensor 'alpha' is missing or has"):
        Dists(files["vgg"], files["vgg"])
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match="not a weights file"):
        Dists(tmp_path / "text.pth", files["dists"])
    np.savez(tmp_path / "a.npz", mu_pris_param=np.zeros(3), cov_pris_param=np.eye(3))
    for name in ("absent.npz", "text.pth", "a.npz"):
        with pytest.raises(CheckpointError, match="niqe_pris_params"):
            Niqe(tmp_path / name)


def test_inception_is_the_published_network():
    torch.manual_seed(0)
    network = Inception().eval()
    # Szegedy's network without classifier: 21 768 352 weights and shifts, 17 216 gains.
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    names = network.state_dict()
    expected = [
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_var",
        "Mixed_6a.branch3x3dbl_3.bn.bias",
        "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.conv.weight",
        "Mixed_7c.branch_pool.bn.weight",
    ]
    for name in expected:
        assert name in names
    with torch.no_grad():
        assert network(torch.rand(1, 3, 40, 50)).shape == (1, FEATURES)


def test_files_without_counters_are_read_but_nothing_else_may_lack():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    weights = {"0.weight": drawn(3), "0.bias": drawn(3)}
    weights |= {"0.running_mean": drawn(3), "0.running_var": drawn(3).abs()}
    assert fill(network, weights, "a.pth", "it")[0].weight.tolist() == drawn(3).tolist()
    del weights["0.running_var"]
    with pytest.raises(CheckpointError, match=r"tensor '0\.running_var' is missing or has"):
        fill(network, weights, "a.pth", "it")


def test_frechet_distance_is_that_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(70, 8)) @ rng.normal(size=(8, 8)) - 2
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.trace(linalg.sqrtm(s @ t)).real  # as pytorch-fid computes it
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross
    found = frechet_distance([torch.from_numpy(x)], [torch.from_numpy(y)])
    assert found == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_is_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 1
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross
    sets = [[torch.from_numpy(part) for part in np.array_split(v, 3)] for v in (x, y)]
    assert frechet_distance(*sets) == pytest.approx(expected)
    assert frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ImageError, match="at least two images"):
        frechet_distance([sets[0][0][:1]], sets[1])


def numpy_fit(values):
    """Shape and scales by trying every shape of the table."""
    left, right = (np.sqrt((values[side] ** 2).mean()) for side in (values < 0, values > 0))
    ratio = left / right
    target = np.abs(values).mean() ** 2 / (values**2).mean()
    target *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes = np.arange(0.2, 10.001, 0.001)
    g = math.gamma
    table = np.array([g(2 / a) ** 2 / (g(1 / a) * g(3 / a)) for a in shapes])
    shape = shapes[np.argmin((table - target) ** 2)]
    scale = np.sqrt(g(1 / shape) / g(3 / shape))
    return shape, left * scale, right * scale


def numpy_features(luma):
    axis = np.arange(-3, 4)
    bell = np.exp(-(axis**2) / (2 * (7 / 6) ** 2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    scales = []
    for side in (96, 48):
        around = np.lib.stride_tricks.sliding_window_view(np.pad(luma, 3, mode="edge"), (7, 7))
        mean = (around * window).sum((2, 3))
        spread = np.sqrt(np.abs((around**2 * window).sum((2, 3)) - mean**2))
        normal = (luma - mean) / (spread + 1)
        rows = []
        for top in range(0, luma.shape[0], side):
            for start in range(0, luma.shape[1], side):
                block = normal[top : top + side, start : start + side]
                shape, left, right = numpy_fit(block.ravel())
                row = [shape, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    product = block * np.roll(block, shift, (0, 1))
                    shape, left, right = numpy_fit(product.ravel())
                    middle = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
                    row += [shape, middle, left, right]
                rows.append(row)
        scales.append(rows)
        luma = half_as_matlab(half_as_matlab(luma).T).T
    return np.concatenate(scales, axis=1)


def half_as_matlab(x):
    """`imresize(x, 0.5)` along the rows: the cubic kernel twice as wide, borders mirrored."""
    count = len(x)
    out = []
    for place in range(count // 2):
        centre = 2 * place + 0.5  # of the output's pixel among the input's, from 0
        near = np.arange(int(np.floor(centre)) - 3, int(np.floor(centre)) + 5)
        d = np.abs(near - centre) / 2
        inner, outer = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weight = np.where(d <= 1, inner, np.where(d <= 2, outer, 0))
        mirrored = np.where(
            near < 0, -1 - near, np.where(near >= count, 2 * count - 1 - near, near)
        )
        out.append((weight / weight.sum()) @ x[mirrored])
    return np.array(out)


def test_niqe_is_its_definition(tmp_path):
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 12, 20, generator=generator)
    image = F.interpolate(image, (200, 310), mode="bicubic").clamp(0, 1)
    image = (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    rgb = image[0].double().numpy()
    luma = np.tensordot([65.481, 128.553, 24.966], rgb, 1) + 16
    luma = np.round(luma)[:192, :288]
    expected = numpy_features(luma)
    got = features(torch.from_numpy(luma)[None, None])
    assert got.shape == expected.shape == (6, 36)
    # One step of the table of shapes apart where rounding decides, else equal.
    assert got.numpy() == pytest.approx(expected, abs=1.1e-3)
    assert np.median(np.abs(got.numpy() - expected)) < 1e-9
    rng = np.random.default_rng(0)
    mean, root = rng.normal(size=(1, 36)), rng.normal(size=(36, 36))
    np.savez(tmp_path / "n.npz", mu_pris_param=mean, cov_pris_param=root @ root.T)
    off = mean[0] - expected.mean(0)
    middle = (root @ root.T + np.cov(expected, rowvar=False)) / 2
    distance = math.sqrt(off @ np.linalg.pinv(middle) @ off)
    niqe = Niqe(tmp_path / "n.npz")
    assert niqe(image).item() == pytest.approx(distance, rel=2e-3)
    with pytest.raises(ImageError, match="96x192"):
        niqe(image[..., :100, :100])
    with pytest.raises(ImageError, match="not uniform"):
        niqe(torch.full((1, 3, 200, 200), 0.5))


def test_fit_finds_the_distribution_that_was_drawn():
    generator = torch.Generator().manual_seed(0)
    bell = torch.randn(1, 400_000, generator=generator, dtype=torch.float64).abs()
    is_left = torch.rand(bell.shape, generator=generator) < 2 / 3  # as wide as the density asks
    values = torch.where(is_left, -2 * bell, bell)
    shape, left, right = (x.item() for x in fit_asymmetric(values))
    assert shape == pytest.approx(2, abs=0.05)
    assert left / right == pytest.approx(2, abs=0.02)
