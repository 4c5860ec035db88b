"""The weights in the package: small, described, loadable, and of use on photos they never saw."""

from pathlib import Path

import pytest
import tiny_models
import torch

from refusion.checkpoint import read_checkpoint
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.errors import ConfigError
from refusion.images.io import read_image
from refusion.metrics import METRICS
from refusion.restorers import DDRM, load_prior, load_restorer
from refusion.restorers.base import Conditions
from refusion.restorers.ddrm.priors import SHIPPED
from refusion.restorers.ddrm.problems import denoise
from refusion.weights import ONE_STEP, find_weights

WEIGHTS = sorted((Path(__file__).parents[2] / "refusion" / "weights").glob("*.safetensors"))
PHOTOS = Path(__file__).parents[1] / "photos"
NAMES = {path.stem for path in WEIGHTS}
MAX_BYTES = 25e6


def degraded(name, cache, *, seed, max_side=512, **settings):
    """The items of the photos kept out of training, with a degradation."""
    data = DATASETS["SyntheticPairs"](
        folders=[PHOTOS],
        degradation=Component(name, settings),
        seed=seed,
        whole=True,
        max_side=max_side,
        cache=cache,
    )
    return [data[number] for number in range(len(data))]


@pytest.fixture(scope="module")
def hazy(tmp_path_factory):
    return degraded("Haze", tmp_path_factory.mktemp("cache"), seed=5)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_file_is_small_described_and_carded(path):
    checkpoint = read_checkpoint(path)
    assert path.stat().st_size <= MAX_BYTES
    assert path.stem == checkpoint.model.task
    assert find_weights(path.stem, steps=1) == path  # no distilled weights ship
    sampling = checkpoint.model.sampling  # None where one call restores without a diffusion
    assert sampling is None or sampling.distilled_at is None
    assert checkpoint.info["step"] > 0
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Results", "Limits"):
        assert f"## {heading}" in card


def test_dehazing_helps_on_photos_kept_out_of_training(tmp_path):
    """Four samples of haze each: no photo gets worse, with more steps and another seed neither."""
    restorer, gains = load_restorer("dehaze", device="cpu"), []
    psnr = METRICS["psnr"].function
    for seed in range(4):
        for pair in degraded("Haze", tmp_path, seed=seed):
            lq, gt = pair["lq"][None], pair["gt"][None]
            restored = restorer.restore(lq)
            gains.append(float(psnr(restored, gt) - psnr(lq, gt)))
            assert torch.equal(restorer.restore(lq, steps=5, seed=1), restored)
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 2


@pytest.mark.xfail(reason="3.4 dB; the latent model that shipped before had more", strict=True)
def test_dehazing_gains_four_decibels_on_photos_kept_out_of_training(hazy):
    restorer, psnr = load_restorer("dehaze", device="cpu"), METRICS["psnr"].function
    pairs = [(pair["lq"][None], pair["gt"][None]) for pair in hazy]
    gains = [float(psnr(restorer.restore(lq), gt) - psnr(lq, gt)) for lq, gt in pairs]
    assert min(gains) > 0
    assert sum(gains) / len(gains) > 4


def test_haze_in_the_distance_is_found():
    """A clear landscape, and light haze that grows with the distance over it."""
    tau = torch.linspace(1.0, 0, 192).view(1, 1, -1, 1).clamp_min(0.05)
    ground = 0.5 * torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(2))
    ground = ground.repeat_interleave(2, 2)
    sky = torch.tensor([0.55, 0.7, 0.9]).view(1, 3, 1, 1)
    clear = torch.cat([sky.expand(1, 3, 64, 160), ground[..., 64:, :]], 2)
    hazy = clear * torch.exp(-tau) + 0.8 * (1 - torch.exp(-tau))
    before = (hazy - clear).abs()[..., 64:128, :].mean()
    for name, largest in (("dehaze", 0.68), ("dehaze_landscape", 0.62)):  # 0.76 with one network
        result = load_restorer(name, device="cpu").restore(hazy)
        assert (result - clear).abs()[..., 64:128, :].mean() < largest * before


def test_dehazing_does_not_touch_photos_without_haze():
    restorer = load_restorer("dehaze", device="cpu")
    for path in sorted(PHOTOS.glob("*.jpg")):
        photo = read_image(path).samples[None]
        assert torch.equal(restorer.restore(photo), photo)


def test_one_step_uses_the_distilled_weights_of_a_folder(tmp_path, monkeypatch):
    """What `--task dehaze --steps 1` does where a distilled model lies beside the other."""
    sampling = {"sampler": "posterior", "steps": 1, "distilled_at": 55, "start_noise": 0.0}
    student = tiny_models.CONFIGS["pixel"] | {"sampling": sampling}
    monkeypatch.setitem(tiny_models.CONFIGS, "student", student)
    tiny_models.save("pixel", tmp_path / "dehaze.safetensors")
    tiny_models.save("student", tmp_path / f"dehaze{ONE_STEP}.safetensors")
    student = load_restorer(find_weights("dehaze", tmp_path, steps=1), device="cpu")
    photo = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(student.restore(photo, seed=0), student.restore(photo, seed=1))
    with pytest.raises(ConfigError, match="distilled to 1 step at time"):
        student.restore(photo, steps=2)
    assert find_weights("dehaze", tmp_path, steps=2).stem == "dehaze"


def test_unknown_noise_and_blur_get_less_on_photos_kept_out_of_training(tmp_path):
    restorer, gains = load_restorer("blind", device="cpu"), []
    for seed in range(3):
        for pair in degraded("SecondOrder", tmp_path, seed=seed, reduction=[1.0, 1.0]):
            lq, gt = pair["lq"][None], pair["gt"][None]
            before, after = (METRICS["psnr"].function(x, gt) for x in (lq, restorer.restore(lq)))
            gains.append(float(after - before))
    assert sum(gains) / len(gains) > 0.3


@pytest.mark.parametrize(
    ("name", "settings", "gain"),
    [
        ("Jpeg", {"quality": [10, 10]}, 0.9),
        ("Jpeg", {"quality": [40, 40]}, 0.7),
        ("CameraNoise", {"sigma": [12.0, 12.0]}, 1.4),
        ("GaussianNoise", {"sigma": [25.0, 25.0], "clip": True}, 7.0),
        ("GaussianBlur", {"sigma": [1.2, 1.2], "noise": [0.0, 0.0]}, 0.4),
    ],
)
def test_one_degradation_alone_gets_less(tmp_path, name, settings, gain):
    """A network that saw only sequences of degradations leaves such photos as they are."""
    restorer, psnr, gains = load_restorer("blind", device="cpu"), METRICS["psnr"].function, []
    for pair in degraded(name, tmp_path, seed=1, max_side=384, **settings):
        lq, gt = pair["lq"][None], pair["gt"][None]
        gains.append(float(psnr(restorer.restore(lq), gt) - psnr(lq, gt)))
    assert min(gains) > 0
    assert sum(gains) / len(gains) > gain


def test_blind_restoration_hardly_changes_good_photos():
    restorer, psnr = load_restorer("blind", device="cpu"), METRICS["psnr"].function
    for path in sorted(PHOTOS.glob("*.jpg")):
        photo = read_image(path).image[None, :, :256, :256]
        assert float(psnr(restorer.restore(photo), photo)) > 42


@pytest.mark.parametrize(
    ("name", "settings", "gain"),
    [
        ("GaussianNoise", {"sigma": [15.0, 15.0], "clip": True}, 5.0),
        ("GaussianNoise", {"sigma": [50.0, 50.0], "clip": True}, 8.0),
        ("CameraNoise", {"sigma": [12.0, 12.0], "white_share": 0.0}, 2.3),
    ],
)
def test_noise_gets_less_on_photos_kept_out_of_training(tmp_path, name, settings, gain):
    """With the estimated level; more network calls do not lose."""
    restorer, psnr = load_restorer("denoise", device="cpu"), METRICS["psnr"].function
    for pair in degraded(name, tmp_path, seed=1, max_side=256, **settings):
        lq, gt = pair["lq"][None], pair["gt"][None]
        before, one, two, ten = (
            float(psnr(image, gt))
            for image in (lq, *(restorer.restore(lq, steps=steps) for steps in (1, None, 10)))
        )
        assert two - before > gain
        assert two > one - 0.05
        assert ten > one - 0.3


def test_denoising_hardly_changes_photos_without_noise():
    restorer, psnr = load_restorer("denoise", device="cpu"), METRICS["psnr"].function
    for path in sorted(PHOTOS.glob("*.jpg")):
        photo = read_image(path).image[None, :, :256, :256]
        assert float(psnr(restorer.restore(photo), photo)) > 36


def test_shadows_get_lighter_on_photos(tmp_path):
    """Three draws each, and photos as they are, some of whose own darkness looks like shadow.

    The shadow model was trained on one of the photos, see tests/photos/README.md.
    """
    restorer, gains = load_restorer("deshadow", device="cpu"), []
    for seed in range(3):
        for pair in degraded("Shadow", tmp_path, seed=seed, max_side=768):
            lq, gt = pair["lq"][None], pair["gt"][None]
            before, after = (METRICS["psnr"].function(x, gt) for x in (lq, restorer.restore(lq)))
            gains.append(float(after - before))
            if seed == 0:
                assert float((restorer.restore(gt) - gt).abs().mean()) < 6 / 255
    assert min(gains) > -0.5
    assert sum(gains) / len(gains) > 4


def test_bokeh_follows_lens_and_depth(tmp_path):
    """Nearly sharp to wide open, on photos kept out of training and scenes nobody trained on."""
    fast_lenses = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    bokeh = {"identity_share": 0.0, "sharp_share": 1.0, "lens_weights": fast_lenses}
    data = DATASETS["SyntheticPairs"](
        folders=[PHOTOS],
        degradation=Component("Bokeh", bokeh),
        whole=True,
        max_side=400,
        cache=tmp_path,
    )
    restorer = load_restorer("bokeh", device="cpu")
    for number in range(len(data)):
        pair = data[number]
        lq, gt = pair["lq"][None], pair["gt"][None]
        restored = restorer.restore(lq, conditions=Conditions.from_item(pair), seed=0)
        before, after = (METRICS["psnr"].function(image, gt) for image in (lq, restored))
        assert float(after - before) > 4


@pytest.mark.skipif(SHIPPED not in NAMES, reason="ships no prior")
def test_the_prior_takes_noise_away():
    clean = read_image(sorted(PHOTOS.glob("*.jpg"))[0]).image[None, :, :96, :128]
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    made = DDRM(load_prior(device="cpu", precision="fp32"), denoise(), 0.1).restore(noisy)
    psnr = METRICS["psnr"].function
    assert float(psnr(made, clean) - psnr(noisy.clamp(0, 1), clean)) > 3


def test_number_format_hardly_matters(hazy):
    lq = hazy[0]["lq"][None, :, :200, :300]
    narrow, wide = (
        load_restorer("dehaze", device="cpu", precision=p).restore(lq) for p in ("bf16", "fp32")
    )
    assert (narrow - wide).abs().mean() < 1 / 255


def test_tiles_do_not_show(hazy):
    lq = hazy[0]["lq"][None, :, :200, :300]
    restorer = load_restorer("dehaze", device="cpu", precision="fp32")
    whole, tiled = (restorer.restore(lq, tile=tile) for tile in (None, 64))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
