"""Stage one_step: the student learns from its teacher, and what is saved is a restorer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_from_dict, config_to_dict
from refusion.errors import CheckpointError, ConfigError
from refusion.restorers import load_restorer
from refusion.training import Trainer
from refusion.training.stages.one_step import OneStepStage

CPU = torch.device("cpu")
SAMPLING = {"sampler": "posterior", "steps": 1, "distilled_at": 45, "start_noise": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("one_step")
    make_photos(root / "photos")
    return root


@pytest.fixture(scope="module")
def taught(folder):
    """Weights of a small diffusion on pixels, hardly trained."""
    config = run_config(
        "diffusion", folder / "photos", folder / "cache", train=TRAIN | {"steps": 1}
    )
    trainer = Trainer(config, device=CPU, runs=folder)
    trainer.train()
    return trainer.model_file


@pytest.fixture
def config_of(folder, taught):
    def build(*, train=TRAIN, sampling=SAMPLING, **distillation):
        raw = config_to_dict(run_config("latent_unet", folder / "photos", folder / "cache"))
        distilled = {"teacher": str(taught), "truth": 0.1, "score": 1.0} | distillation
        raw |= {"name": "student", "stage": "one_step", "latent_unet": None}
        raw |= {"sampling": SAMPLING | sampling, "distillation": distilled, "train": train}
        return config_from_dict(raw)

    return build


def batch(size=4, side=16):
    lq, gt = torch.rand(2, size, 3, side, side, generator=torch.Generator().manual_seed(2))
    return {"lq": lq, "gt": gt}


def generators(size=4, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(size)]


def test_the_student_starts_as_its_teacher_and_no_term_reaches_both(config_of, taught):
    stage = OneStepStage(config_of(imitation=0.5, teacher_steps=3), CPU)
    student, critic = stage.module.student, stage.module.critic
    own = {f"network.{name}": tensor for name, tensor in student.state_dict().items()}
    for name, tensor in read_checkpoint(taught).tensors.items():
        assert torch.equal(own[name], tensor)
    before = [p.clone() for p in stage.teacher.network.parameters()]
    for term, reached in (
        ("truth", student), ("imitation", student), ("score", student), ("critic", critic)
    ):  # fmt: skip
        stage.module.zero_grad(set_to_none=True)
        if term == "score":  # two copies of one network agree: nothing to learn yet
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.add_(0.01)
        stage.loss(batch(), generators())[term].backward()
        for network in (student, critic):
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            assert any(bool(grad.abs().sum() > 0) for grad in grads) == (network is reached)
    assert all(
        torch.equal(p, b) and p.grad is None
        for p, b in zip(stage.teacher.network.parameters(), before, strict=True)
    )


def test_while_the_critic_is_the_teacher_there_is_nothing_to_learn_from_it(config_of):
    assert OneStepStage(config_of(), CPU).loss(batch(), generators())["score"] == 0


class Oracle(nn.Module):
    """Answers with the residual of what it knows; remembers what it was asked."""

    def __init__(self, clean):
        super().__init__()
        self.clean, self.asked = clean, []

    def forward(self, xt, mu, t):
        self.asked.append((xt - mu, t))
        return self.clean - mu


@pytest.mark.parametrize("brighter", [True, False])
def test_the_student_is_led_from_its_critic_to_its_teacher(config_of, brighter):
    """The teacher thinks all is white, the critic black, or the other way round."""
    stage, pair = OneStepStage(config_of(), CPU), batch()
    white, black = Oracle(torch.ones(4, 3, 16, 16)), Oracle(torch.zeros(4, 3, 16, 16))
    teacher, stage.module.critic = (white, black) if brighter else (black, white)
    stage.teacher = replace(stage.teacher, network=teacher)
    answer = nn.Parameter(torch.full((4, 3, 16, 16), 0.5))
    stage.module.student = Oracle(answer)
    stage.loss(pair, generators())["score"].backward()
    step = -answer.grad
    assert bool((step > 0).all() if brighter else (step < 0).all())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_student_is_asked_where_the_restorer_will_ask_it(config_of, share):
    score = 0.0 if share == 0 else 1.0
    stage = OneStepStage(config_of(score=score, sampling={"start_noise": share}), CPU)
    pair = batch(4, 64)
    stage.module.student = Oracle(pair["gt"])
    terms = stage.loss(pair, generators())
    ((offset, t),) = stage.module.student.asked
    assert t.tolist() == [45] * 4
    expected = share * stage.sde.std(45).item()
    assert float(offset.std()) == pytest.approx(expected, rel=0.03, abs=1e-7)
    assert float(terms["truth"]) < 1e-6
    assert (stage.module.critic is None) == (share == 0)


def test_outputs_are_noised_around_the_same_photo_by_the_process_itself(config_of):
    stage = OneStepStage(config_of(), CPU)
    x0, mu = torch.zeros(64, 3, 32, 32), torch.ones(64, 3, 32, 32)
    t, xt = stage._sample_marginal(x0, mu, generators(64))
    assert t.min() >= 2 and t.max() <= 98 and len(t.unique()) > 20
    for time, state in zip(t, xt, strict=True):
        kept, spread = stage.sde.alpha(time).item(), stage.sde.std(time).item()
        assert float(state.mean()) == pytest.approx(1 - kept, abs=5 * spread / 3072**0.5)
        assert float(state.std()) == pytest.approx(spread, rel=0.08)


def test_an_image_is_drawn_alike_whatever_its_batch(config_of):
    stage = OneStepStage(config_of(imitation=1.0, teacher_steps=2), CPU)
    pair, drawn = batch(), generators()
    whole = stage.loss(pair, drawn)
    single = [
        stage.loss({k: v[i : i + 1] for k, v in pair.items()}, generators(1, seed=i))
        for i in range(4)
    ]
    for name, value in whole.items():
        mean = torch.stack([terms[name] for terms in single]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


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
    with pytest.raises(CheckpointError, match=r"another run .*\(distillation\.truth\)"):
        Trainer(config_of(truth=0.5), device=CPU, runs=tmp_path / "stopped").train()


def fitted(stage, part, term, steps=60):
    """Values of a term while a part of the module is trained on one batch by it alone."""
    optimizer, values = torch.optim.Adam(part.parameters(), lr=3e-3), []
    for step in range(steps):
        optimizer.zero_grad()
        value = stage.loss(batch(), generators(seed=10 * step))[term]
        value.backward()
        optimizer.step()
        values.append(value.item())
    return sum(values[:5]), sum(values[-5:])


def test_the_student_learns_the_truth(config_of):
    stage = OneStepStage(config_of(score=0.0, truth=1.0, sampling={"start_noise": 0.0}), CPU)
    first, last = fitted(stage, stage.module.student, "truth")
    assert last < 0.7 * first


def test_the_student_learns_its_teacher(config_of):
    changes = {"score": 0.0, "truth": 0.0, "imitation": 1.0, "teacher_steps": 2}
    stage = OneStepStage(config_of(**changes), CPU)
    with torch.no_grad():
        for parameter in stage.module.student.parameters():
            parameter.add_(0.03)
    first, last = fitted(stage, stage.module.student, "imitation")
    assert last < 0.7 * first


def test_the_critic_learns_the_student(config_of):
    """The student's outputs change, and the critic follows."""
    stage = OneStepStage(config_of(), CPU)
    with torch.no_grad():
        stage.module.student.ending.bias.add_(0.5)
    first, last = fitted(stage, stage.module.critic, "critic")
    assert last < 0.3 * first


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_saved_restores_in_one_step(config_of, tmp_path, taught, share):
    config = config_of(score=share, sampling={"start_noise": share})
    trainer = Trainer(config, device=CPU, runs=tmp_path)
    trainer.train()
    checkpoint = read_checkpoint(trainer.model_file)
    assert checkpoint.model.sampling.distilled_at == 45
    assert checkpoint.tensors.keys() == read_checkpoint(taught).tensors.keys()
    student = trainer.ema.module.student.state_dict()
    assert all(torch.equal(checkpoint.tensors[f"network.{k}"], v) for k, v in student.items())
    restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
    assert (restorer.info.steps, restorer.info.stochastic) == (1, share > 0)
    lq = torch.rand(1, 3, 19, 26, generator=torch.Generator().manual_seed(0))
    one, other = (restorer.restore(lq, seed=seed) for seed in (1, 2))
    assert torch.equal(one, other) == (share == 0)
    with pytest.raises(ConfigError, match="distilled to 1 step"):
        restorer.restore(lq, steps=4)
    assert torch.equal(restorer.restore(lq, sampler="ode-data-2@karras", seed=1), one)
    for word in ("euler", "ode"):
        with pytest.raises(ConfigError, match=f"'{word}' does not end at the network's estimate"):
            restorer.restore(lq, sampler=word)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "nothing.safetensors"}, "no such weights file"),
        ({"sampling": {"sampler": "euler"}}, "'euler' does not end at the network's estimate"),
        ({"sampling": {"distilled_at": 101}}, r"start: expected 1\.\.100, got 101"),
        ({"pixels": 1.0}, "needs a teacher with a latent U-Net"),
    ],
)
def test_what_does_not_go_with_the_teacher_is_refused(config_of, change, message):
    with pytest.raises((ConfigError, CheckpointError), match=message):
        OneStepStage(config_of(**change), CPU)


def test_a_teacher_must_diffuse(config_of, tiny_checkpoint):
    with pytest.raises(ConfigError, match="contains only a latent U-Net"):
        OneStepStage(config_of(teacher=str(tiny_checkpoint("unet"))), CPU)


def test_a_latent_teacher_brings_its_unet_and_may_compare_photos(config_of, tiny_checkpoint):
    path = tiny_checkpoint("latent")
    stage = OneStepStage(config_of(teacher=str(path), pixels=1.0), CPU)
    latents = {k for k in read_checkpoint(path).tensors if k.startswith("latent_unet.")}
    assert stage.fixed.keys() == latents
    stage.loss(batch(), generators())["pixels"].backward()
    assert all(p.grad is None for p in stage.latent_unet.parameters())
    student = [p.grad for p in stage.module.student.parameters() if p.grad is not None]
    assert any(bool(grad.abs().sum() > 0) for grad in student)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"network": {"type": "ConditionalNAFNet"}}, "network: stage one_step takes its teacher's"),
        ({"init": "x.safetensors"}, "init: stage one_step takes its teacher's"),
        ({"distillation": None}, "distillation: required by stage one_step"),
        ({"sampling": None}, "sampling: required by stage one_step"),
        (
            {"sampling": {"sampler": "mean", "steps": 2}},
            r"sampling\.steps: stage one_step trains 1",
        ),
        ({"sampling": SAMPLING | {"start_noise": 0.0}}, "one answer and cannot draw"),
        ({"distillation": {"teacher": "a", "truth": 0.0}}, "distillation.truth: one of truth"),
        ({"stage": "latent_unet"}, "distillation: stage latent_unet has no use for it"),
    ],
)
def test_contradictions_in_the_file_are_refused(config_of, edit, message):
    raw = config_to_dict(config_of()) | edit
    with pytest.raises(ConfigError, match=message):
        config_from_dict(raw)
