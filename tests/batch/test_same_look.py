"""The median look of a series: large photos are reduced, and processes share the work."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from refusion.batch.plan import plan_jobs
from refusion.batch.same_look import SIDE, look_of_median
from refusion.images.io import write_image
from refusion.restorers.base import HazeOptions
from refusion.restorers.refusion.decomposition import Decomposition
from refusion.sde.scattering import Scattering

LIMITS: dict[str, Any] = {"max_pixels": 10**8, "max_memory": None}


class Restorer:
    """Takes the mean colour of a photo for its airlight, and records the sizes of its inputs."""

    info = SimpleNamespace(device="cpu")

    def __init__(self):
        self.sizes = []

    def decompose(self, photo, **_):
        self.sizes.append(tuple(photo.shape[-2:]))
        colour = photo.float().mean(dim=(2, 3), keepdim=True)
        haze = Scattering(torch.ones(1, 1, 2, 2), colour)
        return SimpleNamespace(haze=Decomposition(photo.float()[..., :2, :2], haze))


@dataclass(frozen=True)
class Share:
    """One of several processes, to which the values of the others are known."""

    rank: int
    size: int
    others: list

    def gathered(self, value):
        self.others[self.rank] = value
        return [share for share in self.others if share is not None]


@pytest.fixture
def jobs(tmp_path):
    for number, level in enumerate((0.1, 0.2, 0.9, 0.3, 0.4)):
        write_image(tmp_path / f"{number}.png", torch.full((3, 20, 30), level))
    return plan_jobs([tmp_path], tmp_path / "out")


def test_the_network_runs_on_small_copies(tmp_path):
    write_image(tmp_path / "a.jpg", torch.full((3, 300, SIDE * 3), 0.5))
    restorer = Restorer()
    look = look_of_median(plan_jobs([tmp_path / "a.jpg"]), restorer, HazeOptions(), 1.0, **LIMITS)
    assert restorer.sizes == [(100, SIDE)]
    assert look.haze.airlight == pytest.approx((0.5,) * 3, abs=0.01) and look.count == 1


def test_processes_share_the_photos_and_agree(jobs):
    alone = look_of_median(jobs, Restorer(), HazeOptions(), 1.0, **LIMITS)
    assert alone.count == 5 and alone.photo is None
    assert alone.haze.airlight == pytest.approx((0.3,) * 3, abs=0.01)
    shares, restorers, seen = [None, None], [Restorer(), Restorer()], []
    for rank in (0, 1):
        world = Share(rank, 2, shares)
        look = look_of_median(
            jobs, restorers[rank], HazeOptions(), 1.0, world=world, **LIMITS,
            progress=lambda number, job: seen.append(job.photos[0].input.name),
        )  # fmt: skip
    assert [len(restorer.sizes) for restorer in restorers] == [3, 2]
    assert sorted(seen) == [f"{number}.png" for number in range(5)]
    assert look == alone


def test_a_given_colour_stays(jobs):
    given = HazeOptions(airlight=(0.5, 0.6, 0.7), exposure="auto")
    look = look_of_median(jobs, Restorer(), given, 1.0, **LIMITS)
    assert look.haze.airlight == (0.5, 0.6, 0.7) and isinstance(look.haze.exposure, float)
