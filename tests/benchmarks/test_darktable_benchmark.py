"""The benchmark of packages for darktable: its tiles cover the photo, and its means add up."""

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from benchmarks import darktable
from refusion.checkpoint import read_checkpoint
from refusion.export import export_dtmodel
from refusion.export.local_graph import RIM
from refusion.images.io import write_image


@pytest.mark.parametrize("size", [(300, 171), (128, 129), (40, 500)])
def test_tiles_cover_the_photo_and_are_mirrored_beyond_it(size):
    photo = np.random.default_rng(0).random((3, *size), np.float32)
    sides = []

    def restore(tile):
        sides.append(tile.shape)
        return 2 * tile

    assert np.array_equal(darktable.in_tiles(restore, photo, 192), 2 * photo)
    assert set(sides) == {(3, 192, 192)}
    assert len(sides) == -(-size[0] // 64) * -(-size[1] // 64)
    assert list(darktable.mirrored(np.arange(-3, 6), 3)) == [1, 2, 1, 0, 1, 2, 1, 0, 1]


def test_rims_are_cut_off():
    photo = np.zeros((3, 130, 70), np.float32)

    def restore(tile):
        result = np.ones_like(tile)
        result[:, RIM:-RIM, RIM:-RIM] = 0
        return result

    assert not darktable.in_tiles(restore, photo, 160).any()


def test_every_package_gets_scores(tmp_path, tiny_checkpoint):
    checkpoint = read_checkpoint(tiny_checkpoint("blind"))
    package = export_dtmodel(checkpoint, tmp_path / "mine.dtmodel").path
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate("ab"):
        image = torch.rand(3, 90, 100, generator=torch.Generator().manual_seed(seed))
        write_image(tmp_path / f"photos/{name}.png", image)
    argv = [str(tmp_path / "photos"), str(package), "--names", "a", "b", "--levels", "20"]
    argv += ["--degradations", "FirstOrder", "--tile", "144"]
    found = darktable.measure(darktable.build_parser().parse_args(argv))
    assert list(found) == ["noise 20", "FirstOrder"]
    for scores in found.values():
        assert scores["mine"] == pytest.approx(scores["mine, tiles of 144"], abs=0.5)
        largest = scores["mine, tiles of 144: largest difference"]
        assert 0 <= scores["mine, tiles of 144: mean difference"] <= largest < 60
    lines = darktable.table(found).splitlines()
    assert lines[0] == "| | noise 20 | FirstOrder |" and len(lines) == 2 + 5
    assert darktable.summary([{"x": 1.0, "a: largest difference": 1.0},
                              {"x": 3.0, "a: largest difference": 5.0}]) == {
        "x": 2.0, "a: largest difference": 5.0}  # fmt: skip
