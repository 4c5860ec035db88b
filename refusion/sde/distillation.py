"""Variational score distillation: a loss for a network that restores in one step.

The outputs G of the network, the student, are to have the distribution that a trained diffusion
model, the teacher, samples from. Noise is added to G. The teacher estimates G from this state, and
so does the critic, a denoiser trained on the student's outputs. The difference between the two
estimates is the direction in which G must change (ProlificDreamer, NeurIPS 2023; OSEDiff, NeurIPS
2024, eqs. 6 and 7). The functions do not depend on the process that adds the noise, so every
one-step restorer can use them.
"""

from __future__ import annotations

from torch import Tensor

_MIN_DISTANCE = 1e-6  # lower bound of the divisor, for a student that agrees with the teacher


def score_distillation_direction(student: Tensor, teacher: Tensor, critic: Tensor) -> Tensor:
    """Direction in which each output of the student must change.

    The unit of the direction is the distance between the output and the teacher's estimate.

    Args:
        student: outputs G, (B, ...), float.
        teacher: the teacher's estimate of G from a state of G at a random time, the same shape.
        critic: the critic's estimate of G from the same state, the same shape.

    Returns:
        (teacher - critic) / mean |student - teacher|, (B, ...), without gradient. The mean is taken
        over each image separately and is at least 1e-6.
    """
    student, teacher, critic = (x.detach() for x in (student, teacher, critic))
    distance = (student - teacher).abs().flatten(1).mean(dim=1).clamp_min(_MIN_DISTANCE)
    return (teacher - critic) / distance.reshape(-1, *[1] * (student.ndim - 1))


def score_distillation_loss(student: Tensor, teacher: Tensor, critic: Tensor) -> Tensor:
    """Loss whose gradient in `student` is minus the direction, divided by the number of values.

    It is half the mean square of student - target, where target = student + direction without
    gradient. Its value measures how much teacher and critic differ. It does not measure the quality
    of the outputs.

    Args:
        student: outputs G, (B, ...), with gradient.
        teacher: see `score_distillation_direction`.
        critic: see `score_distillation_direction`.

    Returns:
        Scalar >= 0.
    """
    target = student.detach() + score_distillation_direction(student, teacher, critic)
    return 0.5 * (student - target).square().mean()
