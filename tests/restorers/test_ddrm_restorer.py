"""The restorer DDRM: its interface, tiles, priors from files, and errors."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from refusion.checkpoint import save_checkpoint
from refusion.errors import CheckpointError, ConfigError, ImageError
from refusion.nets import UnconditionalUNet
from refusion.operators import BlockMean
from refusion.restorers import DDRM, Conditions, load_prior, load_restorer
from refusion.restorers.ddrm.priors import Prior, read_alpha_bar
from refusion.restorers.ddrm.problems import (
    colorize,
    compressed,
    deblur,
    denoise,
    gaussian_deblur,
    inpaint,
    super_resolution,
)
from refusion.restorers.ddrm.restorer import sample_photos
from refusion.restorers.ddrm.sampling import DDRMSettings
from refusion.sde import VPSDE, SeededNoise

NETWORK = {
    "image_size": 16,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "head_channels": 4,
    "groups": 4,
}
CONFIG = {
    "task": "ddrm_prior",
    "network": {"type": "UnconditionalUNet", **NETWORK},
    "sde": {"type": "VPSDE", "T": 100},
    "prediction": "noise",
    "sampling": {"sampler": "posterior", "steps": 5},
}
ALPHA_BAR = VPSDE().alpha_bar


def gray_prior(side=None):
    """A prior with independent pixels N(0, 1/4) in [-1, 1] units: tiles change nothing."""

    def predict(xt, t):
        a = float(ALPHA_BAR[t])
        return xt * (1 - a) ** 0.5 / (0.25 * a + 1 - a)

    return Prior(predict, ALPHA_BAR, side, 20, torch.device("cpu"), "fp32")


def photo(height=12, width=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator) * 0.6 + 0.2


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    torch.manual_seed(0)
    network = UnconditionalUNet(**NETWORK)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    save_checkpoint(path, CONFIG, tensors, {})
    return path


PROBLEMS = {
    "sr2mean": super_resolution(2, "mean"),
    "sr4": super_resolution(4),
    "inpaint": inpaint(torch.arange(192).reshape(12, 16) % 3 > 0),
    "colorize": colorize(),
    "deblur": gaussian_deblur(0.5, "mirrored"),
    "motion": deblur(torch.eye(5), "periodic"),
    "denoise": denoise(),
    "cs": compressed(0.5),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_result_agrees_with_the_photo_and_has_its_size(name):
    problem, lq = PROBLEMS[name], photo()
    restorer = DDRM(gray_prior(), problem, 0.0, DDRMSettings(steps=10))
    result = restorer.restore(lq)
    height, width = 12 * problem.scale, 16 * problem.scale
    assert result.shape == (1, 3, height, width) and result.dtype == torch.float32
    assert restorer.info.scale == problem.scale
    operator = problem.operator((3, height, width))
    expected = lq if operator.data_shape == (3, 12, 16) else operator.forward(lq)
    if name == "inpaint":
        expected = operator.forward(lq)
    inside = (result > 0) & (result < 1)
    if bool(inside.all()):  # nothing was clamped
        assert float((operator.forward(result) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("name", PROBLEMS)
def test_samples_agree_with_the_data(name):
    """Before clamping to [0, 1]. The data of compressive sensing are sums, not gray levels."""
    shape = (3, 12, 16)
    operator = PROBLEMS[name].operator(shape)
    y = operator.forward(photo(*shape[1:]).double())
    settings = DDRMSettings(steps=5)
    result = sample_photos(gray_prior(), operator, y, 0.0, settings, SeededNoise(0), None)
    assert result.dtype == torch.float64
    assert float((operator.forward(result) - y).abs().max()) < 1e-6


@pytest.mark.parametrize("official", [False, True])
def test_estimates_of_a_wrong_prior_are_clamped(official):
    """The prior is wrong at t = 501, where an error of the noise counts threefold in x_0.

    Colorization has data for the mean of the channels only, so they cannot correct the error.
    """
    good, operator = gray_prior(), colorize().operator((3, 12, 16))
    tint = torch.tensor([1.0, -1.0, 0.0])[:, None, None]
    estimate = good.predict_noise
    prior = replace(good, predict_noise=lambda xt, t: estimate(xt, t) + (t > 500) * tint)
    y, settings = operator.forward(photo()), DDRMSettings(steps=2, official=official)
    result = sample_photos(prior, operator, y, 0.0, settings, SeededNoise(0), None)
    assert (float((result - 0.5).abs().max()) < 1) == (not official)


def test_units_are_converted_to_those_of_the_prior():
    """Sigma in [0, 1] units is 2 sigma in the units of the prior; the posterior mean is known."""
    lq = photo(32, 32)
    restorer = DDRM(gray_prior(), denoise(), 0.25, DDRMSettings(steps=100, eta=0.0, eta_b=1.0))
    mean, deviation = restorer.mean_and_deviation(lq, 24)
    # N(0.5, 0.25^2) of the prior and noise 0.25: halfway to gray.
    assert float((mean - (0.5 + (lq[0] - 0.5) / 2)).abs().mean()) < 0.05
    assert deviation.shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["sr4", "denoise"])
def test_tiles_do_not_change_the_result_of_a_local_prior(name):
    lq = photo(20, 28)
    results = [
        DDRM(gray_prior(side), PROBLEMS[name], 0.05, DDRMSettings(steps=4)).restore(lq, tile=tile)
        for side, tile in ((None, None), (9, "auto"), (None, 13))
    ]
    assert torch.allclose(results[0], results[1], atol=1e-5)
    assert torch.allclose(results[0], results[2], atol=1e-5)


def test_tiles_have_the_size_of_the_priors_training_images(prior_file):
    prior, sizes = load_prior(prior_file, device="cpu", precision="fp32"), []
    assert (prior.side, prior.steps, len(prior.alpha_bar)) == (16, 5, 101)

    def recorded(xt, t):
        sizes.append(tuple(xt.shape[-2:]))
        return prior.predict_noise(xt, t)

    recording = Prior(recorded, prior.alpha_bar, 16, 5, prior.device, "fp32")
    DDRM(recording, denoise(), 0.1).restore(photo(21, 40))
    assert set(sizes) == {(16, 16)} and len(sizes) == 5 * 2 * 3


def test_seeds_batches_integers_and_strength(prior_file):
    prior = load_prior(prior_file, device="cpu", precision="fp32")
    restorer = DDRM(prior, super_resolution(2), 0.05)
    lq = torch.cat([photo(seed=1), photo(seed=2)])
    both = restorer.restore(lq, seed=[3, 4])
    assert torch.allclose(both[1:], restorer.restore(lq[1:], seed=4), atol=1e-5)
    assert not torch.equal(both[1:], restorer.restore(lq[1:], seed=5))
    levels = (lq * 255).round().to(torch.uint8)
    assert restorer.restore(levels).dtype == torch.uint8
    none = restorer.restore(lq, strength=0.0)
    half, full = restorer.restore(lq, strength=0.5), restorer.restore(lq)
    unclamped = (full > 0) & (full < 1)
    assert torch.allclose(half[unclamped], ((none + full) / 2)[unclamped], atol=1e-5)
    progress = []
    restorer.restore(lq, callback=lambda *report: progress.append(report))
    assert progress == [("sample", n, 5) for n in range(1, 6)]


def test_load_restorer_makes_a_denoiser_from_a_prior(prior_file):
    restorer = load_restorer(prior_file, device="cpu", precision="fp32")
    assert restorer.info.needs == {"noise_std"} and restorer.info.task == "ddrm_prior"
    assert restorer.restore(photo(), conditions=Conditions(noise_std=0.1)).shape == (1, 3, 12, 16)
    with pytest.raises(ConfigError, match="DDRM needs the noise level of the photo"):
        restorer.restore(photo())
    one = restorer.restore(photo(), conditions=Conditions(noise_std=torch.tensor([0.1])))
    assert torch.equal(one, restorer.restore(photo(), conditions=Conditions(noise_std=0.1)))
    for wrong in (torch.tensor([0.1, 0.2]), "x"):
        with pytest.raises(ConfigError, match=r"^noise level: expected one number, got [^\n]+$"):
            restorer.restore(photo(), conditions=Conditions(noise_std=wrong))


def test_files_that_are_not_priors_raise_an_error(tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="a 'dehaze' model, not a prior"):
        load_prior(tiny_checkpoint("pixel"))
    with pytest.raises(CheckpointError, match="expected the folder of a diffusers"):
        load_prior(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(CheckpointError, match="needs diffusers"):
        load_prior(tmp_path)


def test_schedules_of_diffusers_are_read(tmp_path):
    path = tmp_path / "scheduler_config.json"
    assert torch.equal(read_alpha_bar(path), ALPHA_BAR)
    path.write_text(json.dumps({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50}))
    cosine = read_alpha_bar(path)
    assert len(cosine) == 51 and cosine[0] == 1 and bool((cosine.diff() < 0).all())
    path.write_text(json.dumps({"beta_schedule": "scaled_linear", "num_train_timesteps": 3}))
    roots = torch.tensor([1e-4**0.5, (1e-4**0.5 + 0.02**0.5) / 2, 0.02**0.5]).double()
    torch.testing.assert_close(read_alpha_bar(path)[1:], (1 - roots**2).cumprod(0))
    path.write_text(json.dumps({"trained_betas": [0.5, 0.5]}))
    assert read_alpha_bar(path).tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    "bad",
    [
        {"prediction_type": "v_prediction"},
        {"beta_schedule": "sigmoid"},
        {"rescale_betas_zero_snr": True},
        {"num_train_timesteps": "many"},
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": 0},
        {"beta_start": -1},
        {"beta_start": -1, "beta_schedule": "scaled_linear"},
        {"beta_end": 1.5},
        {"trained_betas": []},
        {"trained_betas": [0.1, "x"]},
        {"trained_betas": [[0.1], [0.2]]},
    ],
    ids=str,
)
def test_an_invalid_schedule_raises_an_error(tmp_path, bad):
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(bad))
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json"):
        read_alpha_bar(path)


def test_the_shipped_prior_is_found_or_its_absence_is_an_error(prior_file, tmp_path, monkeypatch):
    monkeypatch.setattr("refusion.weights.FOLDER", tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    with pytest.raises(
        CheckpointError, match=r"contains none; train one .*denoise_small\.yml.*--weights"
    ):
        load_prior(device="cpu")
    shutil.copy(prior_file, tmp_path / "weights" / "denoise.safetensors")
    assert load_prior(device="cpu").side == 16


BAD = [
    ({"sampler": "posterior"}, "sampler: DDRM has only the sampler 'ddrm', got 'posterior'"),
    ({"tile": 0}, "tile: expected"),
    ({"strength": 2}, "strength: expected 0..1"),
    ({"seed": [1, 2]}, "seed: expected one or 1"),
    ({"steps": 0}, "steps: expected"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_invalid_options_raise_an_error(options, message):
    with pytest.raises(ConfigError) as caught:
        DDRM(gray_prior(), denoise(), 0.1).restore(photo(), **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kernel", "photo_size", "said"),
    [
        (torch.ones(5, 5), (12, 16), "nothing"),
        (torch.ones(7, 7), (12, 16), "warning"),
        (torch.ones(5, 9), (12, 16), "warning"),
        (torch.ones(11, 11), (12, 16), "warning"),
        (torch.ones(13, 13), (12, 16), "error"),
        (torch.ones(1, 17), (12, 16), "error"),
        (F.pad(torch.ones(1, 7), (9, 9, 12, 12)), (12, 16), "nothing"),  # with a black border
        (torch.ones(1, 7), (1, 16), "nothing"),  # no blur along the short side
        (torch.ones(3, 3), (1, 1), "error"),
    ],
    ids=str,
)
def test_kernels_that_are_large_for_the_photo_are_named(kernel, photo_size, said, caplog):
    restorer = DDRM(gray_prior(), deblur(kernel), 0.1, DDRMSettings(steps=1))
    height, width = photo_size
    if said == "error":
        with pytest.raises(ConfigError, match=f"kernel: expected sides up to .*{width}x{height}"):
            restorer.restore(photo(*photo_size))
        return
    assert restorer.restore(photo(*photo_size)).shape == (1, 3, *photo_size)
    assert [record.name for record in caplog.records] == ["refusion.restorers.ddrm.problems"] * (
        said == "warning"
    )


def test_a_black_border_of_a_kernel_changes_nothing():
    kernel, settings = photo(3, 5)[0, 0], DDRMSettings(steps=2, estimate="mean")
    padded = F.pad(kernel, (2, 2, 1, 1))
    lopsided = F.pad(kernel[:, 1:], (3, 2, 1, 1))  # the first column is black, too
    kernel = [kernel, F.pad(kernel[:, 1:], (1, 0))]
    for given, plain in ((padded, kernel[0]), (lopsided, kernel[1])):
        found, expected = (
            DDRM(gray_prior(), deblur(k / k.sum()), 0.1, settings).restore(photo())
            for k in (given, plain)
        )
        assert torch.equal(found, expected)


def test_invalid_problems_raise_an_error():
    with pytest.raises(ConfigError, match=r"mask: expected the photo's size, 17x12, got 16x12"):
        DDRM(gray_prior(), PROBLEMS["inpaint"], 0.1).restore(photo(12, 17))
    with pytest.raises(ConfigError, match="no larger than the image, 16x12, got 13x13"):
        DDRM(gray_prior(), deblur(torch.eye(13), "periodic"), 0.1).restore(photo())
    with pytest.raises(ConfigError, match="kernel: expected odd sides"):
        DDRM(gray_prior(), deblur(torch.ones(4, 3)), 0.1).restore(photo())
    with pytest.raises(ConfigError, match="kernel: is 0"):
        deblur(torch.zeros(3, 3))
    with pytest.raises(ConfigError, match="border: expected one of unknown, mirrored, periodic"):
        deblur(torch.eye(3), "zero")
    with pytest.raises(ConfigError, match=r"border: 'mirrored' needs .* product of two vectors"):
        deblur(torch.eye(3), "mirrored")
    with pytest.raises(ConfigError, match="super-resolution: expected"):
        super_resolution(99)
    with pytest.raises(ConfigError, match="sigma: expected"):
        DDRM(gray_prior(), denoise(), -1.0)
    with pytest.raises(ImageError, match="lq: expected"):
        DDRM(gray_prior(), denoise(), 0.1).restore(photo()[0])


def test_a_separable_kernel_can_have_mirrored_borders():
    kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 1, 1])) / 12
    operator = deblur(kernel, "mirrored").operator((3, 6, 8))
    flat = torch.ones(1, 3, 6, 8)
    assert type(operator).__name__ == "SeparableBlur"
    assert torch.allclose(operator.forward(flat), flat, atol=1e-6)
    dot = torch.zeros(1, 3, 6, 8)
    dot[..., 3, 4] = 1  # rows of the kernel are rows of the photo
    column = deblur(kernel * torch.tensor([[1.0, 0, 0]]), "mirrored")
    spread = column.operator((3, 6, 8)).forward(dot)
    expected = torch.zeros(6, 8)
    expected[2:5, 3] = torch.tensor([1.0, 2, 1]) / 12
    assert torch.allclose(spread[0, 0], expected, atol=1e-6)
    assert isinstance(super_resolution(2, "mean").operator((3, 4, 4)), BlockMean)
