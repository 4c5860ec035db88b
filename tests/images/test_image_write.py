"""Writing: formats, rounding, and a file that is whole or absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_cases import (
    levels,
    noise,
    png_16,
)
from PIL import Image

from refusion.errors import ImageError
from refusion.images import io
from refusion.images.io import read_image, write_image


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "PNG", "tif", "tiff", "webp"])
def test_without_a_model_file(tmp_path, suffix):
    image = torch.rand(3, 11, 13)
    write_image(tmp_path / f"a.{suffix}", image)
    photo = read_image(tmp_path / f"a.{suffix}")
    error = (photo.image - image).abs()
    assert error.max() <= (1.0 if suffix.startswith("jp") else 0.5 / 255 + 1e-6)
    assert photo.mode == "rgb" and photo.bit_depth == 8


def test_values_round_to_nearest_and_clamp(tmp_path):
    values = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 254.49 / 255, 254.51 / 255, 7.0])
    write_image(tmp_path / "a.png", values.view(1, 1, 6).repeat(3, 1, 1))
    assert levels(read_image(tmp_path / "a.png").image)[0, :, 0].tolist() == [
        0,
        0,
        1,
        254,
        255,
        255,
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_and_gradients(tmp_path, dtype):
    image = torch.linspace(0, 1, 30).view(3, 2, 5).to(dtype)
    write_image(tmp_path / "a.png", image.clone().requires_grad_())
    expected = image.float().mul(255).add(0.5).floor().permute(1, 2, 0).numpy()
    assert np.array_equal(levels(read_image(tmp_path / "a.png").image), expected)


def test_suffix_names_the_format_else_the_model(tmp_path):
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "wrong.png", "JPEG")
    photo = read_image(tmp_path / "wrong.png")
    assert photo.format == "JPEG"
    write_image(tmp_path / "plain", photo.image, photo)
    write_image(tmp_path / "named.png", photo.image, photo)
    assert read_image(tmp_path / "plain").format == "JPEG"
    assert read_image(tmp_path / "named.png").format == "PNG"


def test_alpha_follows_a_larger_output_and_is_dropped_by_jpeg(tmp_path, caplog):
    Image.fromarray(noise(4, 6, 4)).save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", torch.rand(3, 8, 12), photo)
    assert read_image(tmp_path / "b.png").alpha.shape == (1, 8, 12)
    write_image(tmp_path / "b.jpg", photo.image, photo)
    assert read_image(tmp_path / "b.jpg").alpha is None and "alpha" in caplog.text


def test_depth_loss_is_logged(tmp_path, caplog):
    (tmp_path / "a.png").write_bytes(png_16(noise(4, 4, 3, np.uint16)))
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.webp", photo.image, replace(photo, lossless=True))
    assert "16 bits become 8" in caplog.text
    assert torch.allclose(read_image(tmp_path / "b.webp").image, photo.image, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    target = tmp_path / f"a.{suffix}"
    write_image(target, torch.rand(3, 8, 8))
    old = target.read_bytes()

    def full_disk(file, *_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "encode", full_disk)
    with pytest.raises(ImageError, match=r"a\..*cannot be written.*No space left"):
        write_image(target, torch.rand(3, 8, 8))
    assert target.read_bytes() == old and list(tmp_path.iterdir()) == [target]


def test_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(file, *_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", torch.rand(3, 8, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("a.png", torch.full((3, 2, 2), float("nan")), "not finite"),
        ("a.jpg", torch.full((3, 300, 2), float("inf")), "not finite"),
        ("a.png", torch.rand(1, 3, 2, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.rand(1, 2, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.rand(3, 0, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.zeros(3, 2, 2, dtype=torch.int32), "torch.int32"),
        ("a.bmp", torch.rand(3, 2, 2), r"\.png"),
        ("a", torch.rand(3, 2, 2), r"\.png"),
        ("none/a.png", torch.rand(3, 2, 2), "folder does not exist"),
        ("folder.png", torch.rand(3, 2, 2), "a folder"),
        (f"{'n' * 300}.png", torch.rand(3, 2, 2), "cannot be written"),
        ("a.webp", torch.rand(3, 1, 16384), "at most 16383"),
        ("a.jpg", torch.rand(3, 65501, 1), "at most 65500"),
    ],
)
def test_write_refusals(tmp_path, name, image, reason):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=reason) as caught:
        write_image(tmp_path / name, image)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="its folder does not exist"):
        write_image(tmp_path / "file" / "a.png", torch.rand(3, 2, 2))
