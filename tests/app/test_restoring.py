"""What the page does with one photo, without a page."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from app_cases import ICC, photo_16
from PIL import Image

from refusion import cli
from refusion.app.models import load_models
from refusion.app.restoring import SIDE, restore_photo
from refusion.batch.options import RestoreOptions
from refusion.errors import CheckpointError, ConfigError, ImageError
from refusion.images.io import read_image, write_image
from refusion.restorers import load_restorer

OPTIONS = RestoreOptions(samples=2, seed=4, strength=0.7, steps=2)


def look(path):
    """Size and mode of a picture."""
    with Image.open(path) as image:
        return image.size, image.mode


@pytest.fixture
def restore(tiny_checkpoint, tmp_path):
    """Restore a file into a new folder; the result and what progress was told."""
    folder = tmp_path / "new"
    folder.mkdir()

    def run(photo, options=OPTIONS, kind="latent"):
        told = []
        restorer = load_restorer(tiny_checkpoint(kind), device="cpu", precision="fp32")
        done = restore_photo(
            photo, "word", restorer, options, folder, lambda *now: told.append(now)
        )
        return done, told

    return run


def test_files_are_those_of_tiled_infer(restore, tiny_checkpoint, tmp_path):
    photo = photo_16(tmp_path / "a.png")
    done, told = restore(photo)
    own = [tmp_path / "own.png", tmp_path / "map.png"]
    argv = ["--input", photo, "--output", own[0], "--uncertainty", own[1], "--samples", 2]
    argv += ["--weights", tiny_checkpoint("latent"), "--device", "cpu", "--precision", "fp32"]
    argv += ["--seed", 4, "--strength", 0.7, "--steps", 2]
    assert cli.restore_main(list(map(str, argv))) == 0
    assert [path.name for path in done.files] == ["a_word.png", "a_word_uncertainty.png"]
    assert [path.read_bytes() for path in done.files] == [path.read_bytes() for path in own]
    assert read_image(done.files[0]).icc == ICC
    assert done.outcome.sizes == ((56, 40),)
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert [stage for _, stage in told] == ["read", "samples", "samples", "write", "write"]


def test_pictures_are_reduced_and_of_one_size(restore, tmp_path):
    done, _ = restore(photo_16(tmp_path / "a.png", 30, 2 * SIDE))
    assert look(done.before) == look(done.after) == ((SIDE, 15), "RGB")
    assert look(done.map) == ((SIDE, 15), "L")
    whole, small = (read_image(path).image for path in (tmp_path / "a.png", done.before))
    assert (whole.mean() - small.mean()).abs() < 2e-3
    assert read_image(done.before).icc == ICC


def test_the_input_of_super_resolution_is_shown_at_the_size_of_the_result(restore, tmp_path):
    options = replace(OPTIONS, samples=1, max_pixels=40 * 56)
    done, _ = restore(photo_16(tmp_path / "a.png"), options, "sr")
    assert done.map is None
    assert len(done.files) == 1
    assert look(done.before) == look(done.after) == ((112, 80), "RGB")


def test_a_gray_photo_stays_gray(restore, tmp_path):
    Image.new("L", (20, 30), 90).save(tmp_path / "g.png")
    done, _ = restore(tmp_path / "g.png")
    assert [look(path)[1] for path in (done.files[0], done.before, done.after)] == ["L"] * 3


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.png", "^a.png: not an image"), ("b.txt", "^b.txt: not an image"), ("", "^c.png: 1x9 is")],
)
def test_errors_name_no_folders(restore, tmp_path, name, said):
    (tmp_path / "a.png").write_text("text")
    (tmp_path / "b.txt").write_text("text")
    write_image(tmp_path / "c.png", torch.zeros(3, 9, 1))
    with pytest.raises(ImageError, match=said) as caught:
        restore(tmp_path / (name or "c.png"), replace(OPTIONS, max_pixels=8))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["a.gif", "a.html", "a.png.exe", "a"])
def test_the_content_of_a_file_decides_and_not_its_name(restore, tmp_path, name):
    done, _ = restore(photo_16(tmp_path / "a.png").rename(tmp_path / name))
    assert done.files[0].name == f"{Path(name).stem}_word.png"
    assert read_image(done.files[0]).bit_depth == 16


def test_a_gif_is_refused_in_one_line_without_folders(restore, tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.gif")
    with pytest.raises(ImageError, match=r"^a\.gif: .*GIF") as caught:
        restore(tmp_path / "a.gif")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", [".a.png", "...png", ".png"])
def test_results_are_no_hidden_files(restore, tmp_path, name):
    done, _ = restore(photo_16(tmp_path / "a.png").rename(tmp_path / name))
    assert not any(file.name.startswith(".") for file in done.files)


def test_wrong_steps_are_an_error_of_options(restore, tmp_path):
    with pytest.raises(ConfigError, match="steps"):
        restore(photo_16(tmp_path / "a.png"), replace(OPTIONS, steps=5000))


def test_models_are_what_ships_and_what_is_named(tiny_checkpoint):
    models = load_models([tiny_checkpoint("latent")], device="cpu")
    shipped = ["dehaze", "dehaze_landscape", "deshadow", "bokeh", "blind", "denoise"]
    assert list(models) == ["latent", *shipped]
    assert all(model.info.views == 1 for model in models.values())
    needs = {name: model.info.needs for name, model in models.items()}
    assert needs.pop("bokeh") == {"lens", "guide"}  # which a depth map gives
    assert not any(needs.values())


@pytest.mark.parametrize(("kind", "why"), [("stereo", "two views"), ("lens", "lens")])
def test_models_that_need_more_are_refused(tiny_checkpoint, kind, why):
    with pytest.raises(CheckpointError, match=f"--weights.*{why}"):
        load_models([tiny_checkpoint(kind)], device="cpu")
