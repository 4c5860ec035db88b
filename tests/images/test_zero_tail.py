"""Photo files of full length that end in zeros, as an interrupted copy leaves them."""

import io

import numpy as np
import pytest
from PIL import Image

from refusion.errors import ImageError
from refusion.images import zero_tail
from refusion.images.io import read_arrays, write_image
from refusion.images.photo import Photo

AROUND = np.mgrid[0:240, 0:320]
TEXTURE = 0.5 + 0.25 * np.sin(AROUND[0] / 3) + 0.25 * np.sin(AROUND[1] / 5)
KINDS = {
    "jpg": {},
    "webp": {"lossless": False},
    "lossless.webp": {"lossless": True},
    "avif": {},
    "heic": {},
}


def photo_file(tmp_path, kind, image):
    """The content of a photo file, float (3, H, W)."""
    name = tmp_path / f"a.{kind}"
    if kind == "heic":
        heif = pytest.importorskip("pillow_heif")
        pixels = (255 * image).astype(np.uint8).transpose(1, 2, 0)
        heif.from_pillow(Image.fromarray(pixels)).save(name, quality=80)
    elif kind == "jpg":  # without restart markers and without an end marker, see below
        pixels = (255 * image).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(name, quality=90)
    else:
        if kind == "avif":
            pytest.importorskip("imagecodecs")
        settings = Photo(image, format=kind.rpartition(".")[2].upper(), quality=80, **KINDS[kind])
        write_image(name, image, settings)
    return name, name.read_bytes()


@pytest.fixture
def noisy():
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 240, 320))
    return (TEXTURE + noise).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_zeros_in_the_place_of_pixels_are_no_part_of_the_photo(tmp_path, noisy, kind, share):
    name, content = photo_file(tmp_path, kind, noisy)
    assert read_arrays(name).samples.shape == (3, 240, 320)
    kept = int(share * len(content))
    name.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(ImageError, match=r"^[^\n]*truncated[^\n]*$") as caught:
        read_arrays(name)
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [bytes(500), b"more" * 50])
def test_bytes_behind_a_complete_photo_are_no_reason(tmp_path, noisy, kind, more):
    name, content = photo_file(tmp_path, kind, noisy)
    before = read_arrays(name).samples
    name.write_bytes(content + more)
    assert np.array_equal(read_arrays(name).samples, before)


def test_a_padded_jpeg_without_its_end_is_read(tmp_path, noisy):
    name, content = photo_file(tmp_path, "jpg", noisy)
    before = read_arrays(name).samples
    name.write_bytes(content.removesuffix(b"\xff\xd9") + bytes(2000))
    assert np.array_equal(read_arrays(name).samples, before)


def test_a_photo_whose_own_code_ends_in_zeros_is_read(tmp_path):
    white, data = np.full((1500, 1500, 3), 255, np.uint8), io.BytesIO()
    Image.fromarray(white).save(data, "WEBP")
    content = data.getvalue()
    assert not any(content[-2 * zero_tail._MISSING :])  # the case is there
    (tmp_path / "a.webp").write_bytes(content)
    assert (read_arrays(tmp_path / "a.webp").samples > 250).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_usual_photo_is_decoded_once(tmp_path, noisy, kind, monkeypatch):
    name, _ = photo_file(tmp_path, kind, noisy)

    def fail(*_):
        raise AssertionError("the photo was changed")

    monkeypatch.setattr(zero_tail, "_filled", fail)
    assert read_arrays(name).samples.shape == (3, 240, 320)


def test_zeros_are_counted_over_the_parts():
    data = b"ab" + bytes(5000) + b"c" + bytes(3) + b"x"
    assert zero_tail._zeros(data, [(0, 5002)]) == 5000
    assert zero_tail._zeros(data, [(5003, 5006), (0, 5002)]) == 5003
    assert zero_tail._zeros(data, [(0, len(data))]) == 0
    changed = zero_tail._filled(data, [(5003, 5006), (0, 5002)], 5)
    assert changed == b"ab" + bytes(4998) + b"ZZ" + b"c" + b"ZZZ" + b"x"
