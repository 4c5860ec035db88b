"""Stage osediff: what is trained, by which loss, and that what is saved restores."""

from __future__ import annotations

from dataclasses import replace

import osediff_cases
import pytest
import torch
import torch.nn.functional as F
from options_cases import OPTIONS, toy, write_photos
from training_cases import TRAIN, BlockingCopies, make_photos, run_config

from refusion.config import config_from_dict, config_to_dict
from refusion.errors import CheckpointError, ConfigError
from refusion.restorers import OSEDiff, load_osediff
from refusion.stable_diffusion import load_stable_diffusion
from refusion.training import Trainer
from refusion.training.paths import check_paths
from refusion.training.stages.osediff import OSEDiffStage

CPU = torch.device("cpu")
ADAMW = TRAIN | {"optimizer": {"type": "AdamW", "lr": 1e-3}}
WORDS = {"prompt": "a photo", "negative_prompt": "a drawing, blurred"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("osediff")
    make_photos(root / "photos")
    return root


@pytest.fixture
def config_of(folder, tiny_sd):
    pytest.importorskip("peft")

    def build(*, train=ADAMW, **settings):
        raw = config_to_dict(run_config("latent_unet", folder / "photos", folder / "cache"))
        raw |= {"name": "generator", "stage": "osediff", "latent_unet": None, "train": train}
        raw["osediff"] = {"sd": str(tiny_sd), "lpips": None, **WORDS} | settings
        return config_from_dict(raw)

    return build


@pytest.fixture
def stage_of(config_of):
    def build(**settings):
        torch.manual_seed(0)
        return OSEDiffStage(config_of(**settings), CPU)

    return build


def batch(size=2, side=16):
    lq, gt = torch.rand(2, size, 3, side, side, generator=torch.Generator().manual_seed(2))
    return {"lq": lq, "gt": gt}


def generators(size=2, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(size)]


def smooth(size, seed):
    """Smooth pictures, and the same with noise."""
    drawn = torch.Generator().manual_seed(seed)
    gt = F.interpolate(torch.rand(size, 3, 3, 3, generator=drawn), (16, 16), mode="bicubic")
    noise = 0.2 * torch.randn(gt.shape, generator=drawn)
    return {"lq": (gt + noise).clamp(0, 1), "gt": gt.clamp(0, 1)}


def shaken(stage, part, spread=0.1):
    """Give a part's parameters values as if they were trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in stage.module.get_submodule(part).parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return stage


def test_what_is_trained_are_the_adapters_and_the_first_convolution(stage_of):
    stage = stage_of()
    names = [name for name, _ in stage.module.named_parameters()]
    bases = [name for name in names if ".lora_" not in name]
    first = "generator.unet.conv_in.base_layer"
    assert bases == [f"{first}.weight", f"{first}.bias"]
    unet, vae, critic = (
        [name for name in names if name.startswith(part)]
        for part in ("generator.unet", "generator.vae", "critic")
    )
    assert len(unet) - 2 == len(critic) and vae
    assert all(".encoder" in n or "quant_conv" in n for n in vae)
    trained = {id(p) for p in stage.module.parameters()}
    frozen = [p for net in stage.sd.networks() for p in net.parameters() if id(p) not in trained]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.dtype == torch.float32 for p in stage.module.parameters())
    before = [p.clone() for p in frozen]
    stage.loss(batch(), generators())["total"].backward()
    assert all(p.grad is not None for p in stage.module.parameters())
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(frozen, before, strict=True))


def test_no_term_reaches_both(stage_of):
    stage = shaken(shaken(stage_of(), "critic"), "generator")
    for term, reached in (("pixels", "generator"), ("score", "generator"), ("critic", "critic")):
        stage.module.zero_grad(set_to_none=True)
        stage.loss(batch(), generators())[term].backward()
        for part in ("generator", "critic"):
            grads = [p.grad for p in stage.module.get_submodule(part).parameters()]
            if part == reached:
                assert all(grad is not None and bool(grad.any()) for grad in grads)
            else:
                assert all(grad is None for grad in grads)


def test_generator_critic_and_frozen_model_share_one_network_and_nothing_else(stage_of, tiny_sd):
    stage = shaken(shaken(stage_of(), "critic"), "generator")
    plain = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain.predict(z, 500, stage.prompt)
        results = []
        for context in (stage._unet_of([]), stage._unet_of(["critic"]), stage._generator()):
            with context as sd:
                results.append(sd.predict(z, 500, stage.prompt))
        assert torch.equal(results[0], expected)
        assert all((other - expected).abs().mean() > 1e-3 for other in results[1:])
        assert (results[1] - results[2]).abs().mean() > 1e-3
        with stage._unet_of([]) as sd:  # the generator's convolution went with it
            assert torch.equal(sd.predict(z, 500, stage.prompt), expected)


def published_loss(stage, z0, draws):
    """The released code's distribution matching loss, written out."""
    sd, (t, noise) = stage.sd, draws
    abar = sd.schedule.alpha_bar[t].float().reshape(-1, 1, 1, 1)
    noisy = abar.sqrt() * z0 + (1 - abar).sqrt() * noise
    told = stage.prompt.expand(len(z0), -1, -1)
    with torch.no_grad():
        with stage._unet_of(["critic"]):
            update = sd.predict(noisy, t, told)
        with stage._unet_of([]):
            text = sd.predict(noisy, t, told)
            uncond = sd.predict(noisy, t, stage.negative_prompt.expand(len(z0), -1, -1))
        fixed = uncond + 7.5 * (text - uncond)
        x0_update, x0_fix = ((noisy - (1 - abar).sqrt() * e) / abar.sqrt() for e in (update, fixed))
    weight = torch.abs(z0 - x0_fix).mean(dim=[1, 2, 3], keepdim=True)
    gradient = (x0_update - x0_fix) / weight
    return F.mse_loss(z0, (z0 - gradient).detach())


def test_the_score_term_is_the_published_one(stage_of):
    stage = shaken(stage_of(), "critic")
    z0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3), requires_grad=True)
    draws = []
    noised = stage._noised

    def remember(*args):
        found = noised(*args)
        draws.append((found[2], found[1]))
        return found

    stage._noised = remember
    score = stage._score_terms(z0, generators())["score"]
    expected = published_loss(stage, z0, draws[0])
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-6)
    slope, wanted = (torch.autograd.grad(loss, z0)[0] for loss in (score, expected))
    torch.testing.assert_close(slope, wanted, rtol=1e-3, atol=1e-7)


def test_times_are_the_published_ones(stage_of):
    stage = stage_of()
    x0 = torch.zeros(400, 4, 1, 1)
    for share, low, high in (((0.02, 0.98), 20, 979), ((0, 1), 0, 999)):
        zt, noise, t = stage._noised(x0, share, generators(400))
        assert low <= t.min() < low + 15 and high - 15 < t.max() <= high
        spread = (1 - stage.sd.schedule.alpha_bar[t]).sqrt().float().reshape(-1, 1, 1, 1)
        torch.testing.assert_close(zt, spread * noise)


def test_a_step_copies_its_times_without_waiting(stage_of):
    stage = stage_of()
    with BlockingCopies() as blocking:
        stage.loss(batch(), generators())
    assert not blocking.found


def test_pixels_count_as_in_published_units(stage_of):
    """The square of images in [-1, 1], and lq of another size is enlarged."""
    stage, pair = stage_of(score_weight=0.0, critic_weight=0.0), batch()
    assert set(stage.loss(pair, generators())) == {"total", "pixels"}
    stage.sd.vae.decoder.forward = lambda z: torch.zeros(len(z), 3, 16, 16)
    expected = F.mse_loss(torch.zeros_like(pair["gt"]), 2 * pair["gt"] - 1)
    small = pair | {"lq": pair["lq"][..., ::2, ::2]}
    for given in (pair, small):
        torch.testing.assert_close(stage.loss(given, generators())["pixels"], expected)


def fitted(stage, part, term, steps):
    """Values of a term while a part of the module is trained on one batch by it alone."""
    optimizer = torch.optim.Adam(stage.module.get_submodule(part).parameters(), lr=1e-2)
    values = []
    for step in range(steps):
        optimizer.zero_grad()
        value = stage.loss(batch(), generators(seed=10 * step))[term]
        value.backward()
        optimizer.step()
        values.append(value.item())
    return sum(values[:4]), sum(values[-4:])


def test_training_lowers_the_loss_of_pixels(stage_of):
    first, last = fitted(stage_of(score_weight=0.0, critic_weight=0.0), "generator", "pixels", 25)
    assert last < 0.8 * first


def test_training_lowers_the_loss_of_the_critic(stage_of):
    first, last = fitted(stage_of(), "critic", "critic", 16)
    assert last < 0.95 * first


def test_where_critic_and_frozen_model_agree_there_is_nothing_to_learn(stage_of):
    """Without guidance the critic, new, is the frozen model."""
    stage = stage_of(guidance=1.0)
    assert stage.loss(batch(), generators())["score"] < 1e-9
    shaken(stage, "critic")
    assert stage.loss(batch(), generators())["score"] > 1e-4


def test_interrupted_or_not_the_same_bits(config_of, tmp_path):
    def stop(step, total, terms):
        if step == 3:
            raise KeyboardInterrupt

    straight = Trainer(config_of(), device=CPU, runs=tmp_path / "straight")
    straight.train()
    with pytest.raises(KeyboardInterrupt):
        Trainer(config_of(), device=CPU, runs=tmp_path / "stopped").train(stop)
    resumed = Trainer(config_of(), device=CPU, runs=tmp_path / "stopped")
    resumed.train()
    first, second = (t.module.state_dict() for t in (straight, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert straight.scores == resumed.scores
    with pytest.raises(CheckpointError, match=r"another run .*\(osediff\.rank\)"):
        Trainer(config_of(rank=2), device=CPU, runs=tmp_path / "stopped").train()


def test_the_file_restores_as_was_measured(config_of, tiny_sd, tmp_path):
    trainer = Trainer(config_of(), device=CPU, runs=tmp_path)
    trainer.train()
    restorer = load_osediff(tiny_sd, trainer.model_file, device="cpu", precision="fp32",
                            prompt=WORDS["prompt"])  # fmt: skip
    item = trainer.validation["whole"][0]
    view = trainer.stage.viewer(trainer.model(), CPU)
    seen, _ = view({name: item[name][None] for name in ("lq", "gt")})["restored"]
    torch.testing.assert_close(restorer.restore(item["lq"][None]), seen)
    assert trainer.model_file.stat().st_size < 1e6  # adapters alone


@pytest.mark.slow
def test_trained_by_its_whole_loss_one_step_restores_better(stage_of):
    """On photos it did not see; without the fix, which gives any result the photo's colours.

    Decoder and teacher are random here and frozen, so there is little to gain: 2.8 % when written.
    """
    stage = stage_of()
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=5e-3)
    unseen = smooth(8, seed=1)

    def error():
        with stage._generator() as sd, torch.no_grad():
            restorer = OSEDiff(sd, prompt=WORDS["prompt"], color_fix="none")
            return F.mse_loss(restorer.restore(unseen["lq"]), unseen["gt"]).item()

    before = error()
    for step in range(150):
        optimizer.zero_grad()
        seen = smooth(4, seed=100 + step)
        stage.loss(seen, generators(4, seed=10 * step))["total"].backward()
        torch.nn.utils.clip_grad_norm_(stage.module.parameters(), 1.0)
        optimizer.step()
    assert error() < 0.98 * before


def test_lpips_is_there_or_said_to_be_missing(config_of, stage_of, tmp_path, caplog):
    files = osediff_cases.lpips_files(tmp_path)
    terms = stage_of(lpips=files).loss(batch(), generators())
    weighted = terms["pixels"] + 2 * terms["lpips"] + terms["score"] + terms["critic"]
    torch.testing.assert_close(terms["total"], weighted)
    stage_of()
    assert "generator: trains without LPIPS" in caplog.text
    with pytest.raises(ConfigError, match=r"osediff\.lpips\.vgg: no such file: .*--no-lpips"):
        check_paths(config_of(lpips=files | {"vgg": str(tmp_path / "absent.pth")}))


def test_patches_are_whole_latents(stage_of):
    pair = {name: image[..., :14] for name, image in batch().items()}
    with pytest.raises(ConfigError, match=r"patch: stage osediff needs multiples of 4"):
        stage_of().loss(pair, generators())


def test_the_options_file_trains_a_step(tiny_sd, tmp_path):
    """At toy size, with its degradation; the folder of the Stable Diffusion is what must exist."""
    pytest.importorskip("peft")
    write_photos(tmp_path)
    config = toy(OPTIONS / "osediff.yml", tmp_path)
    with pytest.raises(ConfigError, match=r"osediff\.sd: no such folder: .*get the folder of"):
        check_paths(config)
    small = replace(config.osediff, sd=str(tiny_sd), lpips=None)
    trainer = Trainer(replace(config, osediff=small), device=CPU, runs=tmp_path)
    trainer.train()
    assert trainer.step == 1 and trainer.model_file.is_file()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"osediff": None}, "osediff: required by stage osediff"),
        ({"init": "x"}, "init: stage osediff trains a Stable Diffusion"),
        ({"upscale": {"factor": 2}}, "upscale: stage osediff trains a Stable Diffusion"),
        ({"stage": "regression"}, "osediff: stage regression has no use for it"),
        ({"osediff": {"sd": "x", "lpips": None, "critic_weight": 0.0}}, r"osediff\.critic_weight"),
        (
            {"osediff": {"sd": "x", "lpips": None, "pixels_weight": 0.0, "score_weight": 0.0}},
            r"osediff\.pixels_weight",
        ),
    ],
)
def test_contradictions_in_the_file_are_refused(config_of, edit, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(config_to_dict(config_of()) | edit)
