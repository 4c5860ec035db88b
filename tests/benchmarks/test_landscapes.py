"""The folder of landscapes without their own haze."""

import pytest
import torch
from PIL import Image
from test_misty import landscape

from benchmarks.landscapes import clear_landscape, main
from refusion.errors import ConfigError
from refusion.images.io import read_image, write_image


def test_a_hazy_landscape_comes_nearer_to_the_clear_one():
    clear, hazy = landscape(1.0), landscape(0.4)
    result = clear_landscape(hazy)
    hills = slice(32, 64)
    before, after = ((x - clear)[..., hills, :].abs().mean() for x in (hazy, result))
    assert after < 0.8 * before
    assert 0 <= result.min() <= result.max() <= 1


def test_a_photo_without_distance_is_none():
    assert clear_landscape(torch.full((1, 3, 80, 120), 0.5)) is None


def test_folder_has_links_and_changed_photos_under_their_names(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name, photo in (("a.png", landscape(0.4)), ("b.png", landscape(1.0))):
        write_image(photos / name, photo[0])
    write_image(photos / "flat.png", torch.full((3, 40, 60), 0.5))
    Image.new("L", (60, 40), 90).save(photos / "gray.png")
    (tmp_path / "misty.txt").write_text("a.png\nflat.png\ngray.png\n")
    assert main([str(photos), "--misty", str(tmp_path / "misty.txt"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == "1 changed, 2 left out, 1 linked\n"
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    assert (out / "b.png").is_symlink()
    changed, photo = (read_image(folder / "a.png").image for folder in (out, photos))
    assert changed.float().std() > photo.float().std()


def test_a_missing_list_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"misty\.txt"):
        main([str(tmp_path), "--misty", str(tmp_path / "misty.txt"), "--out", str(tmp_path / "o")])


def test_photos_with_one_name_are_refused_before_work(tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (60, 40)).save(tmp_path / folder / "same.png")
    (tmp_path / "misty.txt").write_text("other.png\n")
    folders, out = [str(tmp_path / folder) for folder in ("one", "two")], tmp_path / "out"
    with pytest.raises(SystemExit):
        main([*folders, "--misty", str(tmp_path / "misty.txt"), "--out", str(out)])
    assert "same.png: several photos" in capsys.readouterr().err
    assert not out.exists()
