"""The benchmark of blended tiles: what it counts, and its table."""

import torch

from benchmarks import tiles
from refusion.images.io import write_image


def test_share_of_computed_pixels():
    """6 megapixels: 2 x 4 tiles of 1040 x 800 pixels, the last columns 792 wide."""
    assert tiles.share_computed(100, 200, 512) == 1
    assert tiles.share_computed(2000, 3000, 1024) == 2080 * (3 * 800 + 792) / (2000 * 3000)


def test_the_middle_of_a_photo():
    photo = torch.arange(60.0).reshape(1, 6, 10)
    assert torch.equal(tiles.middle(photo, 4, 2), photo[:, 2:4, 3:7])


def test_rows_without_and_with_tiles(tmp_path, capsys):
    photo = torch.rand(3, 120, 150, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / "photo.png", photo)
    tiles.main(
        [str(tmp_path / "photo.png"), "--task", "blind", "--crop", "128", "96", "--tiles", "64"]
    )
    head, _, whole, tiled = capsys.readouterr().out.splitlines()
    assert head.startswith("| tiles | pixels")
    assert whole.startswith("| none | 1.00 | 1.00 |")
    _, side, share, *_, difference, largest, quality, _ = (
        part.strip() for part in tiled.split("|")
    )
    assert side == "64"
    assert float(share) == round(tiles.share_computed(96, 128, 64), 2) > 1
    assert 0 < float(difference) < float(largest)
    assert float(quality) > 0
