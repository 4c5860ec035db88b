"""Limits on the memory of photos hold before they are decoded, restored and written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refusion.batch.limits import check_results, read_photos
from refusion.batch.plan import plan_jobs
from refusion.errors import ImageError
from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.images.write_memory import write_memory
from refusion.restorers.base import RestorerInfo

INFO = RestorerInfo(
    family="Refusion",
    task="dehaze",
    scale=1,
    views=1,
    needs=frozenset(),
    stochastic=True,
    sampler="ode",
    steps=1,
    factor=1,
    tiling="exact",
    device="cpu",
    precision="fp32",
)


@pytest.fixture
def job(tmp_path):
    write_image(tmp_path / "a.png", torch.rand(3, 30, 40))
    (job,) = plan_jobs([tmp_path / "a.png"], tmp_path / "b.png")
    return job


def test_what_the_process_uses_already_counts(job, monkeypatch):
    monkeypatch.setattr("refusion.tiling.memory._process_bytes", lambda _: 900 * 2**20)
    (photo,) = read_photos(job, INFO, 10**6, 1000 * 2**20)
    assert photo.samples.shape == (3, 30, 40)
    with pytest.raises(ImageError, match=r"a\.png: max memory: decoding 40x30 .* leaves 0\.00 GB"):
        read_photos(job, INFO, 10**6, 900 * 2**20)
    # Photos are not decoded in the memory of a GPU.
    assert read_photos(job, replace(INFO, device="cuda"), 10**6, 900 * 2**20)
    with pytest.raises(ImageError, match="--max-pixels"):
        read_photos(job, INFO, 1199, None)


def test_results_and_files_must_fit(job, monkeypatch):
    monkeypatch.setattr("refusion.tiling.memory._process_bytes", lambda _: 0)
    photo = Photo(torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, 2000, 3000))
    written = write_memory(job.photos[0].output, photo, 3000, 2000)
    needed = 3 * 2000 * 3000 + written
    check_results(job, [photo], INFO, 1, needed)
    check_results(job, [photo], INFO, 1, None)
    with pytest.raises(ImageError, match="max memory: the result of 3000x2000 pixels and its file"):
        check_results(job, [photo], INFO, 1, needed - 1)
    with pytest.raises(ImageError, match="max memory: the result"):  # float samples
        check_results(job, [photo], INFO, 2, needed)
    with pytest.raises(ImageError, match="the result of 6000x4000 pixels"):
        check_results(job, [photo], replace(INFO, scale=2), 1, needed)
