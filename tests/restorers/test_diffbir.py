"""DiffBIR on a tiny Stable Diffusion: interface, fidelity, guidance, samplers and tiles."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import diffbir_cases as cases
import pytest
import torch
import torch.nn.functional as F

from refusion.errors import ConfigError, ImageError
from refusion.restorers import Conditions, DiffBIR
from refusion.restorers.diffbir import DiffBIRSettings, guidance_weight
from refusion.sde import SeededNoise
from refusion.stable_diffusion import Schedule, decode_latent, encode_photo
from refusion.stable_diffusion.sampling import SAMPLERS, sample, spaced_times
from refusion.stable_diffusion.schedule import schedule_of, zero_terminal_snr


def photo(height=20, width=24, seed=0, batch=1):
    rough = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def restorer(tiny_sd):
    return cases.make(tiny_sd)


def with_settings(restorer, **changed):
    settings = replace(restorer.settings, **changed)
    return DiffBIR(restorer.sd, restorer.control, restorer.stage1, settings, restorer.upscale)


def test_interface(restorer):
    lq = photo(batch=2)
    both = restorer.restore(lq, seed=[3, 5])
    assert both.shape == lq.shape and both.dtype == torch.float32
    assert both.min() >= 0 and both.max() <= 1
    assert torch.equal(both, restorer.restore(lq, seed=[3, 5]))
    assert torch.allclose(both[1:], restorer.restore(lq[1:], seed=5), atol=1e-4)
    assert not torch.allclose(both[1:], restorer.restore(lq[1:], seed=6), atol=1e-2)
    levels = (lq[:1] * 65535).round().to(torch.uint16)
    assert restorer.restore(levels).dtype == torch.uint16
    assert torch.equal(restorer.restore(levels, strength=0), levels)
    untouched = restorer.restore(lq, strength=0)
    assert torch.equal(untouched, lq) and untouched.data_ptr() != lq.data_ptr()
    half = restorer.restore(lq, seed=[3, 5], strength=0.5)
    is_inside = (both > 0) & (both < 1)  # the result is clamped last
    torch.testing.assert_close(half[is_inside], ((lq + both) / 2)[is_inside])
    progress = []
    restorer.restore(lq[:1], steps=2, callback=lambda *report: progress.append(report))
    assert progress == [("sample", 1, 2), ("sample", 2, 2)]
    info = restorer.info
    assert (info.family, info.task, info.steps, info.sampler) == ("DiffBIR", "blind", 3, "ddim")


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 18)])
def test_any_size(restorer, size):
    assert restorer.restore(photo(*size), steps=1).shape[-2:] == size
    enlarging = DiffBIR(restorer.sd, restorer.control, None, restorer.settings, upscale=2)
    assert enlarging.restore(photo(*size), steps=1).shape[-2:] == tuple(2 * s for s in size)
    assert enlarging.info.scale == 2


def psnr(a, b):
    return -10 * (a - b).square().mean().log10().item()


@pytest.mark.parametrize("color_fix", ["none", "wavelet"])
def test_similarity_to_stage_1_grows_with_fidelity(tiny_sd, color_fix):
    """With fidelity 1 the result is that of stage 1, encoded and decoded by the VAE."""
    restorer = cases.make(tiny_sd, stage1=cases.Blur(), color_fix=color_fix)
    lq = photo(32, 32)
    clean = restorer.stage1.restore(lq)
    with torch.no_grad():
        coded = decode_latent(restorer.sd, encode_photo(restorer.sd, clean))
    results = [
        with_settings(restorer, fidelity=fidelity).restore(lq, seed=2, tile=None)
        for fidelity in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    to_clean = [psnr(result, clean) for result in results]
    assert to_clean == sorted(to_clean) and to_clean[-1] > to_clean[0] + 0.3
    if color_fix == "none":
        assert torch.allclose(results[-1], coded.clamp(0, 1), atol=1e-3)


def test_guidance_weight_is_lower_at_edges_and_grows_with_fidelity():
    image = photo(32, 32)
    image[..., :16] *= 0.1  # edges to the right
    weights = [guidance_weight(image, 8, s / 10) for s in range(11)]
    assert all(w.shape == (1, 1, 4, 4) for w in weights)
    for low, high in pairwise(weights):
        assert bool((low <= high).all()) and low.min() >= 0 and high.max() <= 1
    assert not weights[0].any() and bool((weights[-1] == 1).all())
    assert weights[3][..., :2].mean() > 1.1 * weights[3][..., 2:].mean()
    flat = guidance_weight(torch.full((1, 3, 16, 16), 0.4), 8, 0.3)
    assert torch.allclose(flat, torch.tensor(0.3))


@pytest.mark.parametrize("turned", [False, True])
def test_guidance_weight_of_a_ramp_is_that_of_the_paper(turned):
    """A ramp with d per pixel has a Sobel magnitude of 8 d; the weight sums 2x2 pixels."""
    ramp = (0.01 * torch.arange(32.0)).expand(1, 3, 32, 32)
    found = guidance_weight(ramp.mT if turned else ramp, 8, 0.3)[..., 1:-1, 1:-1]
    flat = 1 - math.tanh(4 * 8 * 0.01)
    assert torch.allclose(found, torch.tensor(0.3 * (flat + 0.3 * (1 - flat))), atol=1e-5)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_end_at_x0_of_a_perfect_network(restorer, sampler, zero_snr):
    """For every meaning of the network output."""
    sd, x0 = restorer.sd, torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    kinds = ["v_prediction"] if zero_snr else ["epsilon", "v_prediction"]
    alpha_bar = sd.schedule.alpha_bar
    for prediction in kinds:
        schedule = Schedule(zero_terminal_snr(alpha_bar) if zero_snr else alpha_bar, prediction)
        changes = {"prediction_type": prediction, "rescale_betas_zero_snr": zero_snr}
        conditions = replace(sd, schedule=schedule, scheduler={**sd.scheduler, **changes})
        start = SeededNoise([1, 2]).initial(x0)
        for steps in (1, 7, 50):
            found = sample(
                conditions,
                lambda zt, t, schedule=schedule: schedule.output(zt, x0, t),
                start,
                sampler=sampler,
                steps=steps,
                seeds=[1, 2],
            )
            assert torch.allclose(found, x0, atol=2e-2), (prediction, steps)


def test_spaced_ddpm_has_the_exact_variance_for_gaussian_data(restorer):
    """x0 ~ N(0, s^2) with its exact denoiser; the variance after all steps is computed here."""
    sd, s = restorer.sd, 0.5
    alpha_bar = sd.schedule.alpha_bar
    share = alpha_bar.sqrt() * s**2 / (alpha_bar * s**2 + 1 - alpha_bar)  # of x_t in E[x0]
    variance = 1.0
    for t, before in pairwise([*spaced_times(50, 1000), None]):
        ab, ab_before = alpha_bar[t], 1.0 if before is None else alpha_bar[before]
        beta = 1 - ab / ab_before
        slope = ab_before**0.5 * beta / (1 - ab) * share[t]
        slope = slope + (1 - beta) ** 0.5 * (1 - ab_before) / (1 - ab)
        variance = slope**2 * variance + (1 - ab_before) / (1 - ab) * beta

    def predict(zt, t):
        return sd.schedule.output(zt, share[t].item() * zt, t)

    start = SeededNoise(0).initial(torch.empty(1, 4, 48, 48))
    one, other = (
        sample(sd, predict, start, sampler="ddpm", steps=50, seeds=[seed]) for seed in (7, 8)
    )
    assert one.std().item() == pytest.approx(variance.sqrt().item(), rel=0.025)
    assert abs(one.mean().item()) < 0.02
    assert abs((one * start).mean().item()) < 0.05  # new noise has replaced the noise of the start
    assert abs((one * other).mean().item()) < 0.05 * s


def test_ddim_agrees_with_its_formula_and_order_2_is_more_accurate(restorer):
    """The reference for the accuracy is DDIM with 500 steps."""
    schedule, seen = restorer.sd.schedule, []
    start = SeededNoise(0).initial(torch.empty(1, 4, 6, 6))

    def noise_of(zt, t):
        return 0.9 * torch.tanh(zt)

    def predict(zt, t):
        seen.append(t)
        return noise_of(zt, t)

    def run(sampler, steps):
        return sample(restorer.sd, predict, start, sampler=sampler, steps=steps, seeds=[0])

    found, z = run("ddim", 4), start
    assert seen == [999, 749, 499, 249]
    for t, after in pairwise([*seen, None]):
        noise = noise_of(z, t)
        z = schedule.x0(z, noise, t)
        z = z if after is None else schedule.noised(z, noise, after)
    torch.testing.assert_close(found, z, rtol=1e-4, atol=1e-3)
    limit = run("ddim", 500)
    error = {name: (run(name, 20) - limit).abs().mean() for name in ("ddim", "dpm++")}
    assert error["dpm++"] < 0.5 * error["ddim"]


def test_a_schedule_of_20_times_starts_at_its_last_time(restorer):
    """`trained_betas` has priority over `num_train_timesteps`."""
    betas = {"trained_betas": [0.05] * 20, "num_train_timesteps": 1000}
    few = replace(restorer.sd, scheduler=betas, schedule=schedule_of(betas, Path("x")))
    start, seen = SeededNoise(0).initial(torch.empty(1, 4, 2, 2)), []
    for sampler in SAMPLERS:
        sample(few, lambda zt, t: seen.append(t) or zt, start, sampler=sampler, steps=4, seeds=[0])
    assert max(seen) == 19


def test_times_agree_with_the_published_code():
    assert spaced_times(50, 1000)[-4:] == [61, 41, 20, 0] and len(set(spaced_times(50, 1000))) == 50


def test_classifier_free_guidance(restorer):
    """cfg = 1 ignores the negative prompt; the output is linear in cfg; prompts have an effect."""
    lq = photo(16, 16)
    bare = with_settings(restorer, cfg=1.0, steps=1, color_fix="none")
    own = bare.restore(lq)
    assert torch.equal(own, with_settings(bare, negative_prompt="other").restore(lq))
    assert not torch.equal(own, with_settings(bare, prompt="a house").restore(lq))
    prompted = bare.restore(lq, conditions=Conditions(prompt="a house"))
    assert torch.equal(prompted, with_settings(bare, prompt="a house").restore(lq))
    guided = with_settings(bare, cfg=4.0)
    assert not torch.equal(
        guided.restore(lq), with_settings(guided, negative_prompt="other").restore(lq)
    )
    sd, control = restorer.sd, restorer.control
    zt = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prompts = sd.embed(["bad", "good"])
        outputs = [
            DiffBIR(sd, control)._predict(zt, zt, 9, prompts, DiffBIRSettings(cfg=cfg))
            for cfg in (1.0, 2.0, 3.0)
        ]
    unguided = DiffBIRSettings(cfg=1.0)
    with torch.no_grad():
        negative = DiffBIR(sd, control)._predict(zt, zt, 9, prompts.flip(0), unguided)
    assert torch.allclose(outputs[1] - outputs[0], outputs[0] - negative, atol=1e-4)
    assert torch.allclose(outputs[2] - outputs[1], outputs[1] - outputs[0], atol=1e-4)


def test_start_state_and_control_branch(restorer):
    lq = photo(16, 16)
    bare = with_settings(restorer, steps=1, color_fix="none", cfg=1.0)
    assert not torch.equal(bare.restore(lq), with_settings(bare, start="photo").restore(lq))
    states = []
    bare.control.register_forward_pre_hook(lambda module, given: states.append(given[0]))
    for start in ("noise", "photo"):
        with_settings(bare, start=start).restore(lq, seed=3)
    with torch.no_grad():
        latent = encode_photo(bare.sd, lq)
    expected = bare.sd.schedule.noised(latent, SeededNoise(3).initial(latent), 999)
    assert torch.equal(states[0], SeededNoise(3).initial(latent))
    torch.testing.assert_close(states[1], expected)
    assert not torch.equal(bare.restore(lq), with_settings(bare, control=0.0).restore(lq))
    off = with_settings(bare, control=0.0)
    assert torch.equal(
        off.restore(lq), off.restore(photo(16, 16, seed=4))
    )  # the network gets only noise


def test_tiles_are_deterministic_and_close_to_the_whole_photo(restorer):
    lq = photo(40, 56)
    bare = with_settings(restorer, cfg=1.0)
    whole = bare.restore(lq, tile=None)
    assert torch.equal(bare.restore(lq, tile=56), whole)
    tiled = bare.restore(lq, tile=24)
    assert tiled.shape == whole.shape and torch.equal(tiled, bare.restore(lq, tile=24))
    assert (tiled - whole).abs().mean() < 0.1
    assert torch.equal(bare.restore(lq), bare.restore(lq, tile=bare.sd.side))


def test_no_network_input_is_larger_than_a_tile(restorer):
    """This limits the memory for photos of any size."""
    sd, seen = restorer.sd, {}
    networks = {"unet": sd.unet, "control": restorer.control}
    networks |= {"encoder": sd.vae.encoder, "decoder": sd.vae.decoder}
    hooks = [
        network.conv_in.register_forward_pre_hook(
            lambda module, given, name=name: seen.setdefault(name, set()).add(
                max(given[0].shape[-2:])
            )
        )
        for name, network in networks.items()
    ]
    with_settings(restorer, steps=1).restore(photo(64, 100), tile=24)
    for hook in hooks:
        hook.remove()
    assert {name: max(sides) for name, sides in seen.items()} == {
        "unet": 12, "control": 12, "encoder": 24, "decoder": 12,
    }  # fmt: skip


def test_overflow_in_bfloat16_is_computed_again_in_float32(tiny_sd, caplog):
    narrow = cases.make(tiny_sd, precision="bf16", steps=1)
    wide = cases.make(tiny_sd, steps=1)

    def overflow(module, given, output):
        factor = float("nan") if module.dtype == torch.bfloat16 else 1.0
        return [factor * each for each in output[0]], factor * output[1]

    narrow.control.register_forward_hook(overflow)
    found = narrow.restore(photo(16, 16))
    assert "DiffBIR: no finite result in bf16; again in fp32" in caplog.text
    assert (found - wide.restore(photo(16, 16))).abs().mean() < 0.02
    assert narrow.control.dtype == torch.bfloat16


def test_bfloat16_is_close_to_float32(tiny_sd, restorer):
    narrow = cases.make(tiny_sd, precision="bf16", cfg=1.0)
    lq = photo(16, 16)
    wide = with_settings(restorer, cfg=1.0).restore(lq)
    assert (narrow.restore(lq) - wide).abs().mean() < 0.05
    assert narrow.info.precision == "bf16"


BAD_SETTINGS = [
    ({"steps": 0}, "steps: expected 1 to 1000"),
    ({"sampler": "ddpn"}, "did you mean 'ddpm'"),
    ({"fidelity": 1.5}, "fidelity: expected 0..1"),
    ({"cfg": float("nan")}, "cfg: expected a finite number"),
    ({"start": "nowhere"}, "start: unknown value"),
    ({"color_fix": "wave"}, "did you mean 'wavelet'"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_invalid_settings_raise_an_error(settings, message):
    with pytest.raises(ConfigError) as caught:
        DiffBIRSettings(**settings)
    assert message in str(caught.value)


def test_invalid_arguments_raise_an_error(restorer):
    for options, message in [
        ({"sampler": "posterior"}, "unknown sampler"),
        ({"steps": 2000}, "steps: expected 1 to 1000"),
        ({"tile": 0}, "tile: expected"),
        ({"seed": [1, 2]}, "seed: expected one or 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            restorer.restore(photo(), **options)
    with pytest.raises(ImageError):
        restorer.restore(photo()[0])
    for facts in ({"needs": frozenset({"noise_std"})}, {"scale": 4}, {"views": 2}):
        with pytest.raises(ConfigError, match="stage 1: the 'blind' model"):
            DiffBIR(restorer.sd, restorer.control, cases.Blur(**facts))
    with pytest.raises(ConfigError, match="upscale: expected 1 to 16, got 0"):
        DiffBIR(restorer.sd, restorer.control, upscale=0)
