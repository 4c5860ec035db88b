"""Variational score distillation: its direction, its fixed point, and a student that learns it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from refusion.sde import IRSDE
from refusion.sde.distillation import score_distillation_direction, score_distillation_loss

SDE = IRSDE(127.5)
MEAN, SPREAD = 0.2, 0.25


def draws(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 4, 3, 5, 6, generator=generator, dtype=torch.float64)


def test_direction_leads_from_critic_to_teacher_in_units_of_each_image():
    student, teacher, critic = draws()
    direction = score_distillation_direction(student, teacher, critic)
    for g, real, fake, found in zip(student, teacher, critic, direction, strict=True):
        torch.testing.assert_close(found, (real - fake) / (g - real).abs().mean())
    # The size of an image's values plays no part: only that of the difference to its distance.
    torch.testing.assert_close(
        score_distillation_direction(9 * student, 9 * teacher, 9 * critic), direction
    )
    agreed = score_distillation_direction(student, student, student)
    assert torch.equal(agreed, torch.zeros_like(agreed))


def test_gradient_is_minus_the_direction_and_reaches_the_student_only():
    student, teacher, critic = (x.requires_grad_() for x in draws())
    score_distillation_loss(student, teacher, critic).backward()
    direction = score_distillation_direction(student, teacher, critic)
    torch.testing.assert_close(student.grad, -direction / student.numel())
    assert teacher.grad is None and critic.grad is None


def estimate_of_gaussian(mean, spread, xt, t):
    """E[x0 | x_t] for x0 ~ N(mean, spread^2) and mu = 0."""
    kept, variance = SDE.alpha(t)[:, None], SDE.std(t)[:, None] ** 2
    gain = kept * spread**2 / (kept**2 * spread**2 + variance)
    return mean + gain * (xt - kept * mean)


@pytest.mark.parametrize("start", [(-0.3, 0.6), (0.9, 0.02)])
@pytest.mark.parametrize("mistake", [None, "no critic", "swapped"])
def test_the_law_of_the_teacher_is_where_it_comes_to_rest(start, mistake):
    """A student b + a z with exact teacher and critic: (b, a) goes to the target's moments."""
    generator = torch.Generator().manual_seed(1)
    b, a = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start)
    optimizer = torch.optim.Adam([b, a], lr=0.02)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 300)
        z, noise = torch.randn(2, 16, 64, generator=generator, dtype=torch.float64)
        student = b + a * z
        t = torch.randint(2, 99, (16,), generator=generator)
        xt = SDE.sample_marginal(student.detach(), torch.zeros_like(z), t, noise)
        teacher = estimate_of_gaussian(MEAN, SPREAD, xt, t)
        critic = estimate_of_gaussian(b.detach(), a.detach(), xt, t)
        pair = {None: (teacher, critic), "swapped": (critic, teacher)}
        pair["no critic"] = (teacher, student.detach())
        optimizer.zero_grad()
        score_distillation_loss(student, *pair[mistake]).backward()
        optimizer.step()
    rests = b.item() == pytest.approx(MEAN, abs=0.02) and abs(a.item()) == pytest.approx(
        SPREAD, rel=0.06
    )
    assert rests == (mistake is None)


def energy_distance(x, y):
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of two sets of numbers; 0 where the laws agree."""
    cross, first, second = ((a[:, None] - b).abs() for a, b in ((x, y), (x, x), (y, y)))
    own = sum(each.sum() / (len(each) * (len(each) - 1)) for each in (first, second))
    return float(2 * cross.mean() - own)


def gaussian_student(share):
    """Draws of a student b + a * share * z whose critic, a Gaussian too, learns alongside."""
    generator = torch.Generator().manual_seed(3)
    b, a, mean, log_spread = (
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (-0.3, 0.6, 0.0, -1.0)
    )
    optimizer = torch.optim.Adam(
        [{"params": [b, a], "lr": 0.01}, {"params": [mean, log_spread], "lr": 0.03}],
        betas=(0.5, 0.99),
    )

    def noised(x0):
        t = torch.randint(2, 99, (64,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        return t, SDE.sample_marginal(x0, torch.zeros_like(x0), t, noise)

    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 600)
        student = b + a * share * torch.randn(64, 16, generator=generator, dtype=torch.float64)
        known = student.detach()
        t, xt = noised(known)
        with torch.no_grad():
            teacher = estimate_of_gaussian(MEAN, SPREAD, xt, t)
            critic = estimate_of_gaussian(mean, log_spread.exp(), xt, t)
        t, xt = noised(known)
        learned = estimate_of_gaussian(mean, log_spread.exp(), xt, t)
        loss = score_distillation_loss(student, teacher, critic) + (learned - known).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = torch.randn(2000, generator=generator, dtype=torch.float64)
    return (b + a * share * z).detach()


def test_with_noise_the_target_is_reached_and_without_only_its_mean():
    generator = torch.Generator().manual_seed(4)
    target = MEAN + SPREAD * torch.randn(2000, generator=generator, dtype=torch.float64)
    collapsed = SPREAD * 2 * (math.sqrt(2) - 1) / math.sqrt(math.pi)  # of the mean from the target
    assert energy_distance(gaussian_student(1.0), target) < 0.03 * collapsed
    certain = gaussian_student(0.0)
    assert certain.unique().numel() == 1 and float(certain[0]) == pytest.approx(MEAN, abs=0.02)
    assert energy_distance(certain, target) == pytest.approx(collapsed, rel=0.05)


CENTRES, SHARES, WIDTH = torch.tensor([-0.5, 0.5]), torch.tensor([0.3, 0.7]), 0.05
PIXELS, BATCH, STEPS = 8, 64, 1500


def estimate_of_two_modes(xt, t):
    kept, variance = SDE.alpha(t).float()[:, None, None], SDE.std(t).float()[:, None, None] ** 2
    variance = kept**2 * WIDTH**2 + variance
    off = xt[..., None] - kept * CENTRES
    weights = (SHARES.log() - off**2 / (2 * variance)).softmax(dim=-1)
    return (weights * (CENTRES + kept * WIDTH**2 / variance * off)).sum(dim=-1)


class Net(nn.Module):
    """A function of each pixel and of the time."""

    def __init__(self):
        super().__init__()
        wide = 48
        self.layers = nn.Sequential(
            nn.Linear(3, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU(), nn.Linear(wide, 1)
        )

    def forward(self, xt, t):
        t = (t / SDE.T)[:, None].expand_as(xt)
        return self.layers(torch.stack([xt, t, t**2], dim=-1))[..., 0]


def distilled(share, score):
    """Outputs of a student trained with distillation, or for the mean square error alone."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student, critic = Net(), Net()
    optimizer = torch.optim.Adam([*student.parameters(), *critic.parameters()])
    spread, at = share * SDE.std(45).item(), torch.full((BATCH,), 45)

    def normal(rows=BATCH):
        return torch.randn(rows, PIXELS, generator=generator)

    def noised(x0):
        t = torch.randint(2, 99, (BATCH,), generator=generator)
        return t, SDE.sample_marginal(x0, torch.zeros_like(x0), t, normal())

    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.002 * (1 + math.cos(math.pi * step / STEPS))
        output = student(spread * normal(), at)
        known = output.detach()
        t, xt = noised(known)
        with torch.no_grad():
            pair = estimate_of_two_modes(xt, t), critic(xt, t)
        t, xt = noised(known)
        loss = (critic(xt, t) - known).square().mean()
        if score:
            loss = loss + score_distillation_loss(output, *pair)
        else:
            which = torch.multinomial(SHARES, known.numel(), True, generator=generator)
            loss = loss + (output - CENTRES[which].view_as(output)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return student(spread * normal(500), torch.full((500,), 45)).flatten()


@pytest.mark.slow
def test_a_student_with_noise_learns_both_modes_and_one_without_only_the_mean():
    """Two values per pixel, 30 % and 70 %; the critic is trained alongside, as in the stage."""
    sampling, mean = distilled(1.0, score=True), distilled(1.0, score=False)
    assert float(mean.std()) < 0.05 and float(mean.mean()) == pytest.approx(0.2, abs=0.05)
    assert float(sampling.mean()) == pytest.approx(0.2, abs=0.08)
    assert float(sampling.std()) == pytest.approx(0.461, rel=0.15)
    assert float((sampling > 0).float().mean()) == pytest.approx(0.7, abs=0.1)
    generator = torch.Generator().manual_seed(5)
    which = torch.multinomial(SHARES, 2000, True, generator=generator)
    target = CENTRES[which] + WIDTH * torch.randn(2000, generator=generator)
    far = energy_distance(mean[:2000], target)
    assert energy_distance(sampling[:2000], target) < 0.2 * far
    assert float(distilled(0.0, score=True).std()) < 1e-3
