"""Laws of the patterns that materials are made of."""

from __future__ import annotations

import math

import pytest
import torch

from refusion.synthesis.scenes.textures import draw_cells, draw_strokes, lay_tiles, spectral_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def band(field: torch.Tensor, low: float, high: float) -> float:
    """Root mean square of the amplitudes at low..high cycles per side."""
    side = field.shape[0]
    frequency = torch.fft.fftfreq(side, 1 / side)
    radius = torch.hypot(frequency[:, None], frequency[None])
    power = torch.fft.fft2(field).abs() ** 2
    return float(power[(radius >= low) & (radius < high)].mean().sqrt())


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_falls_as_the_power_asked_for(slope: float) -> None:
    field = spectral_noise(256, generator(), slope=slope, coarse=1.0)
    octaves = band(field, 10, 14) / band(field, 80, 112)
    assert math.log2(octaves) / 3 == pytest.approx(slope, abs=0.1)
    assert abs(float(field.mean())) < 1e-5
    assert float(field.std()) == pytest.approx(1, abs=1e-4)


def test_stretched_noise_changes_slowly_along_the_long_side() -> None:
    field = spectral_noise(256, generator(), slope=1.0, coarse=20, stretch=(1.0, 16.0))
    assert field.diff(dim=1).std() < field.diff(dim=0).std() / 2.5


def test_noise_and_cells_close_to_a_torus() -> None:
    field = spectral_noise(128, generator(), slope=2.0)
    cells = draw_cells(128, generator(), (9, 12))
    for seam, inner in (
        (field[0] - field[-1], field.diff(dim=0)),
        (field[:, 0] - field[:, -1], field.diff(dim=1)),
        (cells.border[0] - cells.border[-1], cells.border.diff(dim=0)),
        (cells.border[:, 0] - cells.border[:, -1], cells.border.diff(dim=1)),
    ):
        assert seam.abs().mean() < 2 * inner.abs().mean()


def test_cells_are_those_of_the_nearest_point() -> None:
    """Against all points and their eight copies, one by one."""
    side, across = 48, (5, 4)
    cells = draw_cells(side, generator(3), across, jitter=1.0)
    points = torch.rand(2, *across, generator=generator(3)).view(2, -1)
    points += torch.stack(torch.meshgrid(*map(torch.arange, across), indexing="ij")).view(2, -1)
    pixels = (torch.arange(side) + 0.5) / side
    gaps = []
    for axis, count in enumerate(across):
        gap = (pixels[:, None] * count - points[axis]).abs()
        gaps.append(torch.minimum(gap, count - gap))
    distance = torch.hypot(gaps[0][:, None], gaps[1][None])
    near = distance.topk(2, largest=False)
    is_sure = near.values[..., 0] < 0.9  # farther ones may lie beyond the eight neighbours
    assert is_sure.float().mean() > 0.95
    assert torch.equal(cells.index[is_sure], near.indices[..., 0][is_sure])
    assert cells.count == 20
    assert (cells.border >= 0).all()


def test_tiles_have_joints_where_the_index_changes() -> None:
    tiles = lay_tiles(120, (4, 3), torch.tensor([0.0, 0.5, 0.0, 0.5]))
    assert torch.equal(tiles.index.unique(), torch.arange(12))
    assert torch.bincount(tiles.index.view(-1)).eq(30 * 40).all()
    for dim in (0, 1):
        changes = tiles.index.diff(dim=dim) != 0
        border = tiles.border.narrow(dim, 1, 119)
        assert border[changes].max() <= 0.51 / 120
    assert tiles.border.max() == pytest.approx(0.125, abs=0.01)
    assert tiles.index[15, 0] != tiles.index[15, 41]
    assert tiles.index[45, 0] == tiles.index[45, 119], "a shifted row goes on at the other side"


def test_strokes_follow_their_angle_and_length() -> None:
    flat = draw_strokes(128, generator(), count=1, length=40, width=1, angle=(0.0, 0.0), curl=0.0)
    rows, columns = (flat.index == 0).nonzero(as_tuple=True)
    assert rows.unique().numel() == 1
    assert 18 <= columns.unique().numel() <= 41
    assert flat.along.max() > 0.95
    assert (flat.depth[flat.index < 0] == 0).all()


def test_the_highest_stroke_is_seen() -> None:
    strokes = draw_strokes(64, generator(), count=3000, length=12, width=2, angle=(0.5, 1.0))
    assert strokes.index.max() < 3000
    assert (strokes.index >= 0).float().mean() > 0.98
    assert strokes.depth.mean() > 0.75, "of many heights at one place the highest"
