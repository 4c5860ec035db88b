"""Every kind of TIFF is read as the specification says: random kinds against arrays."""

from __future__ import annotations

import logging
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_files import BYTE_CODECS, Layout, tiff

from refusion.errors import ImageError
from refusion.images.io import read_image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK = range(6)
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, MASK: 1, CMYK: 4}
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
UNSIGNED = {1: np.uint8, 2: np.uint8, 4: np.uint8, 8: np.uint8, 10: np.uint16, 12: np.uint16}
UNSIGNED |= {14: np.uint16, 16: np.uint16}
FLOAT = {16: np.float16, 32: np.float32, 64: np.float64}


@st.composite
def kinds(draw):
    """Samples, their layout, the palette, and whether the samples are floats."""
    photometric = draw(st.sampled_from(list(COLOURS)))
    is_float = photometric not in (PALETTE, MASK) and draw(st.integers(0, 3)) == 0
    depths = FLOAT if is_float else UNSIGNED
    bits = draw(st.sampled_from([bits for bits in depths if photometric != PALETTE or bits <= 8]))
    extras = draw(
        st.sampled_from([(), (0,), (1,), (2,), (0, 2), (2, 0), (0, 0)])
        if photometric != PALETTE
        else st.sampled_from([(), (2,)])
    )
    predictors = [1, 2, 3] if is_float else [1, 2] if bits in (8, 16) else [1]
    tile = draw(st.sampled_from([0, 0, 16, 32]))
    layout = Layout(
        bits=bits,
        photometric=photometric,
        codec=draw(st.sampled_from(list(BYTE_CODECS))),
        predictor=draw(st.sampled_from(predictors)),
        planar=draw(st.booleans()),
        order=draw(st.sampled_from("<>")),
        rows=draw(st.sampled_from([1, 3, 1000])),
        tile=tile,
        big=draw(st.booleans()),
        reversed_bits=draw(st.integers(0, 5)) == 0,
        extras=extras,
    )
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40)), COLOURS[photometric] + len(extras)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if is_float:
        samples = rng.random(shape).astype(FLOAT[bits])
    else:
        samples = rng.integers(0, 2**bits, shape).astype(UNSIGNED[bits])
    palette = rng.integers(0, 65536, (2**bits, 3)) if photometric == PALETTE else None
    return samples, layout, palette


def meaning(samples, layout, palette):
    """Colours and alpha as numbers in [0, 1], computed in double precision; alpha may be None."""
    full = 1.0 if samples.dtype.kind == "f" else 2.0**layout.bits - 1
    count = COLOURS[layout.photometric]
    values = samples.astype(np.float64) / full
    colour, extra = values[..., :count], values[..., count:]
    if palette is not None:
        colour = palette[samples[..., 0]] / 65535
    alphas = [n for n, kind in enumerate(layout.extras) if kind != UNSPECIFIED]
    alpha = extra[..., alphas[0], None] if alphas else None
    if alphas and layout.extras[alphas[0]] == ASSOCIATED:
        with np.errstate(all="ignore"):
            colour = np.where(alpha > 0, np.minimum(colour / alpha, 1), 0)
    if layout.photometric == WHITE_IS_ZERO:
        colour = 1 - colour
    if layout.photometric == CMYK:
        colour = (1 - colour[..., :3]) * (1 - colour[..., 3:])
    return np.broadcast_to(colour, (*colour.shape[:2], 3)), alpha


def check(folder, samples, layout, palette):
    tags = {}
    if palette is not None:
        tags["t320"] = (3, palette.T.ravel().tolist())
    path = folder / "a.tif"
    path.write_bytes(tiff(samples, layout, **tags))
    photo = read_image(path)
    depth = 8 if layout.bits <= 8 else 16
    if samples.dtype.kind == "f":
        depth = 32
    elif palette is not None:
        is_8_bit = any((palette % step == 0).all() for step in (256, 257)) or palette.max() < 256
        depth = 8 if is_8_bit else 16
    assert photo.bit_depth == depth
    colour, alpha = meaning(samples, layout, palette)
    # Half a level of rounding for each of at most three steps: depth, alpha, inks.
    exact = layout.photometric != CMYK and ASSOCIATED not in layout.extras
    level = {8: 1 / 255, 16: 1 / 65535, 32: 2e-7}[depth]
    tolerance = level * (0.51 if exact or depth == 32 else 1.51)
    if ASSOCIATED in layout.extras and depth == 32:
        tolerance = 1e-5
    read = photo.image.permute(1, 2, 0).double().numpy()
    assert np.abs(read - colour).max() <= tolerance
    assert (photo.alpha is None) == (alpha is None)
    if alpha is not None:
        assert np.abs(photo.alpha[0].numpy() - alpha[..., 0]).max() <= level * 0.51


HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH
)
@given(kinds())
def test_every_kind_is_read_as_the_specification_says(tmp_path, kind):
    logging.disable(logging.WARNING)
    try:
        check(tmp_path, *kind)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.slow
@settings(
    max_examples=5000, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH
)
@given(kinds())
def test_many_kinds_are_read_as_the_specification_says(tmp_path, kind):
    test_every_kind_is_read_as_the_specification_says.hypothesis.inner_test(tmp_path, kind)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"order": ">"},
        {"planar": True},
        {"tile": 16},
        {"predictor": 2},
        {"reversed_bits": True},
        {"photometric": CMYK},
        {"extras": (UNSPECIFIED,)},
        {"extras": (ASSOCIATED,)},
        {"extras": (UNASSOCIATED,)},
        {"extras": (UNSPECIFIED, UNASSOCIATED)},
    ],
)
def test_uncompressed_strips(tmp_path, bits, change):
    """Strips that are stored like an array are read directly, all others are converted."""
    layout = replace(Layout(bits, RGB, rows=3), **change)
    shape = (8, 21, COLOURS[layout.photometric] + len(layout.extras))
    samples = np.random.default_rng(0).integers(0, 2**bits, shape).astype(UNSIGNED[bits])
    check(tmp_path, samples, layout, None)


IMAGE_KINDS = [
    ("webp", 3, np.uint8),
    ("webp", 4, np.uint8),
    ("png", 1, np.uint8),
    ("png", 3, np.uint16),
    ("jpegxl", 1, np.uint16),
    ("jpegxl", 3, np.uint8),
    ("jpeg2k", 3, np.uint8),
    ("jpeg2k", 1, np.uint16),
    ("lerc", 3, np.uint8),
    ("lerc", 1, np.float32),
]


@pytest.mark.parametrize(("codec", "count", "dtype"), IMAGE_KINDS)
@pytest.mark.parametrize(("tile", "planar"), [(0, False), (32, False), (32, True)])
def test_pictures_inside_strips_and_tiles(tmp_path, codec, count, dtype, tile, planar):
    """Lossless codecs of images; the last strip and the tiles at the border are shorter."""
    if codec == "webp" and planar:
        pytest.skip("WebP has no pictures of one channel")
    rng = np.random.default_rng(1)
    if dtype is np.float32:
        samples = rng.random((37, 41, count), dtype)
    else:
        samples = rng.integers(0, np.iinfo(dtype).max + 1, (37, 41, count), dtype)
    layout = Layout(
        bits=samples.dtype.itemsize * 8,
        photometric=RGB if count > 2 else BLACK_IS_ZERO,
        codec=codec,
        rows=16,
        tile=tile,
        planar=planar,
        extras=(UNASSOCIATED,) if count == 4 else (),
    )
    check(tmp_path, samples, layout, None)


JPEG_KINDS = [("jpeg", 1, 1), ("jpeg", 1, 0), ("rgb jpeg", 3, 2), ("ycbcr jpeg", 3, 6)]
JPEG_KINDS += [("cmyk jpeg", 4, 5)]


@pytest.mark.parametrize(("codec", "count", "photometric"), JPEG_KINDS)
@pytest.mark.parametrize(("tile", "planar"), [(0, False), (64, False), (64, True)])
def test_jpeg_inside_a_tiff(tmp_path, codec, count, photometric, tile, planar):
    if planar and codec != "rgb jpeg":
        pytest.skip("the planes of this kind are not stored apart")
    ramp = np.linspace(20, 230, 128)
    samples = np.stack([ramp[None] * np.ones((96, 1))] * count, axis=2)
    samples[..., 1:] = samples[:, ::-1, 1:]
    samples = samples.round().astype(np.uint8)
    layout = Layout(8, photometric, "jpeg" if planar else codec, rows=40, tile=tile, planar=planar)
    (tmp_path / "a.tif").write_bytes(tiff(samples, layout))
    decoded = RGB if count == 3 else photometric
    colour, _ = meaning(samples, replace(layout, photometric=decoded), None)
    read = read_image(tmp_path / "a.tif").image.permute(1, 2, 0).numpy()
    assert np.abs(read - colour).max() < 5 / 255


@pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_fax_codes(tmp_path, codec, photometric):
    """libtiff writes the stored bits as they are; the photometric tag says what they mean."""
    bits = np.random.default_rng(2).integers(0, 2, (50, 70)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.tif", compression=codec)
    data = (tmp_path / "a.tif").read_bytes()
    entry = struct.pack("<HHIH", 262, 3, 1, 1)
    assert data.count(entry) == 1
    data = data.replace(entry, struct.pack("<HHIH", 262, 3, 1, photometric))
    (tmp_path / "a.tif").write_bytes(data)
    photo = read_image(tmp_path / "a.tif")
    expected = bits if photometric == BLACK_IS_ZERO else ~bits
    assert photo.mode == "gray"
    assert np.array_equal(photo.samples[0].numpy(), expected * 255)


def test_eight_bit_palettes_stay_at_eight_bits(tmp_path):
    colours = np.random.default_rng(3).integers(0, 256, (16, 3))
    samples = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    for step in (1, 256, 257):
        palette = colours * step
        path = tmp_path / f"{step}.tif"
        path.write_bytes(tiff(samples, Layout(4, PALETTE), t320=(3, palette.T.ravel().tolist())))
        photo = read_image(path)
        assert photo.bit_depth == 8 and photo.mode == "rgb"
        assert np.array_equal(photo.samples.permute(1, 2, 0).reshape(-1, 3).numpy(), colours)


def test_cmyk_keeps_16_bits(tmp_path, caplog):
    inks = np.random.default_rng(4).integers(0, 65536, (20, 20, 4)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff(inks, Layout(16, CMYK, "zstd", 2)))
    photo = read_image(tmp_path / "a.tif")
    light = (65535 - inks[..., 3:]).astype(np.int64)
    expected = light - np.rint(inks[..., :3] * light / 65535)
    assert photo.bit_depth == 16 and "CMYK is converted" in caplog.text
    assert np.array_equal(photo.samples.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("codec", ["none", "lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, codec, orientation):
    """Rows and columns of the stored image lie where the tag says."""
    samples = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    data = tiff(samples, Layout(8, BLACK_IS_ZERO, codec), t274=(3, (orientation,)))
    (tmp_path / "a.tif").write_bytes(data)
    turns = {
        1: samples,
        2: samples[:, ::-1],
        3: samples[::-1, ::-1],
        4: samples[::-1],
        5: samples.transpose(1, 0, 2),
        6: samples[::-1].transpose(1, 0, 2),
        7: samples[::-1, ::-1].transpose(1, 0, 2),
        8: samples[:, ::-1].transpose(1, 0, 2),
    }
    read = read_image(tmp_path / "a.tif").samples[0].numpy()
    assert np.array_equal(read, turns[orientation][..., 0])


@pytest.mark.parametrize("codec", ["lzw", "deflate", "none"])
def test_subsampled_ycbcr_without_jpeg(tmp_path, codec):
    """4:2:0 blocks: four values of luma, then Cb and Cr; gray if both are 128."""
    luma = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    blocks = b"".join(
        luma[top : top + 2, left : left + 2].tobytes() + b"\x80\x80"
        for top in range(0, 8, 2)
        for left in range(0, 8, 2)
    )
    samples = np.frombuffer(blocks, np.uint8).reshape(1, 32, 3)
    tags = {"t256": (4, (8,)), "t257": (4, (8,)), "t278": (4, (8,)), "t530": (3, (2, 2))}
    (tmp_path / "a.tif").write_bytes(tiff(samples, Layout(8, 6, codec), **tags))
    if codec == "none":  # Pillow would read it as three samples per pixel
        with pytest.raises(ImageError, match="YCbCr with fewer samples of colour"):
            read_image(tmp_path / "a.tif")
        return
    read = read_image(tmp_path / "a.tif").samples.numpy()
    assert np.abs(read.astype(int) - luma).max() <= 1


@pytest.mark.parametrize("codec", ["cmyk jpeg", "none", "deflate"])
def test_ycbcr_with_alpha_is_refused(tmp_path, codec):
    """The decoders would return the colours without conversion."""
    samples = np.full((16, 16, 4), 128, np.uint8)
    layout = Layout(8, 6, codec, rows=16, extras=(UNASSOCIATED,))
    (tmp_path / "a.tif").write_bytes(tiff(samples, layout))
    with pytest.raises(ImageError, match="YCbCr with alpha"):
        read_image(tmp_path / "a.tif")


BT_709 = {"t529": (5, (2126, 10000, 7152, 10000, 722, 10000))}
BT_601 = {"t529": (5, (299, 1000, 587, 1000, 114, 1000))}
LIMITED = {"t532": (5, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1))}
FULL = {"t532": (5, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))}


@pytest.mark.parametrize(
    ("tags", "planar", "fault"),
    [
        (BT_709, False, "coefficients of another standard"),
        (LIMITED, False, "a limited range"),
        ({}, True, "separate planes"),
        ({"t529": (5, (1, 0, 1, 0, 1, 0))}, False, "denominator of 0"),
        (BT_601 | FULL, False, None),
    ],
)
def test_uncompressed_ycbcr_is_read_as_that_of_a_jpeg_or_refused(tmp_path, tags, planar, fault):
    samples = np.full((16, 16, 3), (94, 102, 203), np.uint8)
    data = tiff(samples, Layout(8, 6, planar=planar), t530=(3, (1, 1)), **tags)
    (tmp_path / "a.tif").write_bytes(data)
    if fault is None:
        pixel = read_image(tmp_path / "a.tif").samples[:, 5, 5].tolist()
        assert np.abs(np.array(pixel) - (200, 50, 48)).max() <= 2
        return
    with pytest.raises(ImageError, match=fault):
        read_image(tmp_path / "a.tif")
