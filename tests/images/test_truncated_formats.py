"""A photo file that ends early is called truncated, in one line."""

import numpy as np
import pytest
from image_cases import ICC

from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo

pytest.importorskip("imagecodecs")


@pytest.mark.parametrize("icc", [None, ICC])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_jxl_says_so(tmp_path, icc, lossless, share):
    path, noise = tmp_path / "a.jxl", np.random.default_rng(0).random((3, 40, 50))
    noise = noise.astype(np.float32)
    write_image(path, noise, Photo(noise, format="JXL", lossless=lossless, icc=icc))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"\(truncated[^\n]+\)$") as caught:
        read_image(path)
    assert "Jxl" not in str(caught.value)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_webp_says_so(tmp_path, lossless, share):
    path, noise = tmp_path / "a.webp", np.random.default_rng(0).random((3, 40, 50))
    noise = noise.astype(np.float32)
    write_image(path, noise, Photo(noise, format="WEBP", lossless=lossless, icc=ICC))
    content = path.read_bytes()
    assert read_image(path).samples.shape == (3, 40, 50)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
