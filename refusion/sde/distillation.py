"""Variational score distillation: a loss for a network that answers in one step.

A student's outputs G shall have the law that a trained denoiser, the teacher, samples from. Noise
them again; where the teacher's estimate of G differs from that of a denoiser trained on the
student's outputs, the critic, the two laws differ, and the difference points the way
(ProlificDreamer, NeurIPS 2023; OSEDiff, NeurIPS 2024, eqs. 6 and 7). Nothing here knows how states
are noised: any one-step restorer can use it.
"""

from __future__ import annotations

from torch import Tensor

_LEAST = 1e-6  # of the student's distance from the teacher, where they agree


def score_distillation_direction(student: Tensor, teacher: Tensor, critic: Tensor) -> Tensor:
    """Where each student's output should go, in units of its distance from the teacher's estimate.

    Args:
        student: outputs G, (B, ...).
        teacher: the teacher's estimate of G from G noised to a random time.
        critic: the critic's estimate of G from the same state.

    Returns:
        (teacher - critic) / mean |student - teacher|, the mean over each image; without gradient.
    """
    student, teacher, critic = (x.detach() for x in (student, teacher, critic))
    distance = (student - teacher).abs().flatten(1).mean(dim=1).clamp_min(_LEAST)
    return (teacher - critic) / distance.reshape(-1, *[1] * (student.ndim - 1))


def score_distillation_loss(student: Tensor, teacher: Tensor, critic: Tensor) -> Tensor:
    """A scalar whose gradient in `student` is minus the direction, divided by its size.

    Half the mean square between the output and the place one direction away. Its value says how
    much teacher and critic differ, and nothing of how good the outputs are.

    Args:
        student: outputs, with gradient.
        teacher: see `score_distillation_direction`.
        critic: as `teacher`.
    """
    target = student.detach() + score_distillation_direction(student, teacher, critic)
    return 0.5 * (student - target).square().mean()
