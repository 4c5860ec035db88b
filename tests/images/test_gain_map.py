"""Gain maps of HDR photos: kept in JPEG files where they stay true, dropped with a warning else."""

from __future__ import annotations

import io
import struct

import gain_map_cases as hdr
import metadata_cases as cases
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from refusion.images.gain_map import GainMap
from refusion.images.io import read_image, write_image

imagecodecs = pytest.importorskip("imagecodecs")
needs_ultrahdr = pytest.mark.skipif(
    not imagecodecs.ULTRAHDR.available, reason="imagecodecs has no libultrahdr"
)


def rewritten(tmp_path, data, suffix="jpg", change=lambda samples: samples):
    (tmp_path / "a.jpg").write_bytes(data)
    photo = read_image(tmp_path / "a.jpg")
    write_image(tmp_path / f"b.{suffix}", change(photo.samples), photo)
    return (tmp_path / f"b.{suffix}").read_bytes()


def shown(data):
    """What libultrahdr shows on an HDR display: linear light (H, W, 3), 1 is SDR white."""
    return imagecodecs.ultrahdr_decode(data)[..., :3].astype(np.float32)


def iso_photo():
    light = np.ones((64, 96, 4), np.float16)
    light[..., :3] = (hdr.scene()[0] / 255) ** 2.2
    light[8:24, 16:72, :3] *= 4
    return imagecodecs.ultrahdr_encode(light)


KINDS = {"ultra_hdr": hdr.ultra_hdr, "iso": iso_photo}


@needs_ultrahdr
@pytest.mark.parametrize("kind", KINDS)
def test_libultrahdr_shows_the_result_as_the_photo(tmp_path, caplog, kind):
    source = KINDS[kind]()
    result = rewritten(tmp_path, source)
    assert not caplog.text
    before, after = shown(source), shown(result)
    assert before.max() > 1.1  # brighter than SDR white
    assert np.abs(after - before).mean() < 0.01
    photo, gain_map = hdr.parts(result)
    assert source.endswith(gain_map)  # byte for byte
    assert (hdr.ISO + bytes(4) in photo) == (kind == "iso")
    assert hdr.listed_length(photo) == (None if kind == "iso" else len(gain_map))


@needs_ultrahdr
def test_the_gain_map_is_a_ratio_of_the_restored_photo(tmp_path):
    """A photo with half of the values is darker by one factor in SDR and in HDR."""
    source = hdr.ultra_hdr()
    result = rewritten(tmp_path, source, change=lambda samples: samples // 2)
    bright, plain = np.s_[43:53, 10:18], np.s_[44:60, 40:90]
    ratios = [shown(result)[part].mean() / shown(source)[part].mean() for part in (bright, plain)]
    assert ratios == pytest.approx([0.5**2.2] * 2, rel=0.15)
    sdr = (hdr.scene()[0] // 2 / 255) ** 2.2
    assert shown(result)[bright].mean() / sdr[bright].mean() > 2


@needs_ultrahdr
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_gain_map_is_turned_with_the_photo(tmp_path, caplog, orientation):
    # A map of the photo's size, because libultrahdr enlarges other maps with a shift.
    gain_map = hdr.map_jpeg(np.kron(hdr.scene()[1], np.ones((2, 2), np.uint8)))
    result = rewritten(tmp_path, hdr.ultra_hdr(orientation, gain_map=gain_map))
    assert not caplog.text
    stored = hdr.ultra_hdr(gain_map=gain_map)
    tags = Image.Exif()
    tags[0x0112] = orientation
    upright = []
    for channel in np.moveaxis(shown(stored), 2, 0):
        image = Image.fromarray(channel)
        image.info["exif"] = tags.tobytes()
        image.getexif()[0x0112] = orientation
        upright.append(np.asarray(ImageOps.exif_transpose(image)))
    after = shown(result)
    assert after.shape[:2] == upright[0].shape
    assert np.abs(after - np.stack(upright, -1)).mean() < 0.02
    photo, gain_map = hdr.parts(result)
    assert hdr.listed_length(photo) == len(gain_map)
    assert b"hdrgm:GainMapMax" in gain_map and b"Exif" not in gain_map


def test_most_coefficients_of_a_turned_map_stay(tmp_path):
    """The tables are turned, too, so the pixels differ by rounding only."""
    gain = hdr.scene()[1] // 2 + 60  # no value that the decoder would clip
    gain_map = GainMap(hdr.map_jpeg(gain, quality=60), orientation=6)
    before, after = (
        np.asarray(Image.open(io.BytesIO(data))).astype(int)
        for data in (gain_map.jpeg, gain_map.upright().jpeg)
    )
    assert np.abs(np.rot90(before, -1) - after).max() <= 2
    assert gain_map.upright().upright() is not None


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_form_of_apple_has_an_index_only(tmp_path, caplog, order):
    photo, gain_map = hdr.parts(rewritten(tmp_path, hdr.apple(order)))
    assert b"HDRGainMapVersion" in gain_map and not caplog.text
    assert b"hdrgm" not in photo and b"Container" not in photo and hdr.ISO not in photo


@pytest.mark.parametrize("rights", [True, False])
def test_other_properties_stay_and_the_claims_are_written_once(tmp_path, rights):
    result = rewritten(tmp_path, hdr.ultra_hdr(rights=rights))
    again = rewritten(tmp_path, result)
    photo, gain_map = hdr.parts(again)
    assert ("Ío".encode() in photo) == rights
    assert photo.count(b'hdrgm:Version="1.0"') == 1
    assert hdr.listed_length(photo) == len(gain_map)
    assert hdr.parts(result)[1] == gain_map


def test_a_photo_without_an_index_gets_one(tmp_path, caplog):
    photo, gain_map = hdr.parts(rewritten(tmp_path, hdr.ultra_hdr(has_index=False)))
    assert hdr.listed_length(photo) == len(gain_map) and not caplog.text


def test_the_film_of_a_photo_with_a_gain_map_is_dropped(tmp_path, caplog):
    film = b"\0\0\0\x18ftypmp42" + bytes(range(256))
    items = (hdr.item("MotionPhoto", Mime="video/mp4", Length=len(film)),)
    result = rewritten(tmp_path, hdr.ultra_hdr(behind=film, items=items))
    photo, gain_map = hdr.parts(result)
    assert hdr.listed_length(photo) == len(gain_map)
    assert b"MotionPhoto" not in photo and b"ftyp" not in result
    assert [record.message.partition("dropped: ")[2] for record in caplog.records] == [
        "film (motion photo)"
    ]


def test_a_gain_map_behind_another_picture_is_found(tmp_path, caplog):
    original, gain_map = cases.picture("jpg"), hdr.map_jpeg()
    listed = (
        hdr.item("Primary", Padding=7),
        hdr.item("Original", Length=len(original), Padding=3),
        hdr.item("GainMap", Length=len(gain_map)),
    )
    xmp = cases.XMP_HEADER + cases.packet(hdr.directory(*listed), hdr.CONTAINER)
    photo = hdr.with_segments(hdr.coded(hdr.scene()[0]), (cases.APP1, xmp))
    data = photo + bytes(7) + original + bytes(3) + gain_map
    assert hdr.parts(rewritten(tmp_path, data))[1] == gain_map
    assert len(caplog.records) == 1 and "dropped: " in caplog.text


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_other_formats_drop_it_with_one_warning(tmp_path, caplog, suffix):
    result = rewritten(tmp_path, hdr.ultra_hdr(), suffix)
    (record,) = caplog.records
    assert record.message.endswith("gain map (HDR)") and f"b.{suffix}" in record.message
    assert b"hdrgm" not in result and b"MPF\0" not in result and b"GainMap" not in result


def test_a_part_of_the_photo_drops_it(tmp_path, caplog):
    result = rewritten(tmp_path, hdr.ultra_hdr(), change=lambda samples: samples[:, :40])
    (record,) = caplog.records
    assert record.message.endswith("gain map (HDR)")
    assert b"hdrgm" not in result and b"MPF\0" not in result
    assert result.index(b"\xff\xd9") == len(result) - 2


@pytest.mark.parametrize("factor", [2, 0.5])
def test_a_photo_of_another_size_keeps_it(tmp_path, caplog, factor):
    def resized(samples):
        return torch.nn.functional.interpolate(samples[None].float() / 255, scale_factor=factor)[0]

    hdr.parts(rewritten(tmp_path, hdr.ultra_hdr(), change=resized))
    assert not caplog.text


def cut(data):
    return data[:-200]


def with_places(*places):
    """The photo with an index of other places of the gain map, which no packet lists."""
    photo = hdr.coded(hdr.scene()[0])
    parts = hdr.with_segments(photo, (cases.APP2, hdr.index(9, *places)))
    return parts + b"x" + hdr.map_jpeg()


WRONG = {
    "cut off": cut(hdr.ultra_hdr()),
    "larger than the photo": hdr.ultra_hdr(gain_map=hdr.map_jpeg(np.zeros((99, 99), np.uint8))),
    "another shape": hdr.ultra_hdr(gain_map=hdr.map_jpeg(np.zeros((10, 90), np.uint8))),
    "no picture": hdr.ultra_hdr(gain_map=b"\xff\xd8\xff" + bytes(999)),
    "a segment of ISO 21496-1 alone": cases.jpeg((cases.APP2, hdr.ISO + bytes(4))),
    "no gain map": hdr.ultra_hdr(gain_map=cases.picture("jpg")),
    "far behind the end": with_places((9, 2**32 - 1)),
    "inside the photo": with_places((2**32 - 1, 0)),
    "many": with_places(*[(2**31, 100 + place) for place in range(900)]),
    "no length": with_places((0, 3000)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_damaged_gain_map_never_leaves_a_claim(tmp_path, caplog, name):
    result = rewritten(tmp_path, WRONG[name])
    assert len(caplog.records) == 1 and "dropped: " in caplog.text
    claims = (b"hdrgm", b"Item:", b"MPF\0", hdr.ISO)
    assert not [claim for claim in claims if claim in result]
    assert result.index(b"\xff\xd9") == len(result) - 2


def test_a_turned_map_that_cannot_be_decoded_is_dropped(tmp_path, caplog):
    gain_map = bytearray(hdr.map_jpeg())
    at = gain_map.index(b"\xff\xc0")
    struct.pack_into(">B", gain_map, at + 9, 7)  # number of colours
    result = rewritten(tmp_path, hdr.ultra_hdr(6, gain_map=bytes(gain_map)))
    assert caplog.records[-1].message.endswith("gain map (HDR)")
    assert b"MPF\0" not in result


def test_a_gain_map_loses_its_own_index(tmp_path):
    gain_map = hdr.with_index(hdr.map_jpeg(), cases.picture("jpg"))
    _, kept = hdr.parts(rewritten(tmp_path, hdr.ultra_hdr(gain_map=gain_map)))
    assert b"MPF\0" not in kept and b"hdrgm" in kept


def test_a_long_packet_keeps_its_properties_and_the_gain_map_goes(tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes(hdr.ultra_hdr())
    photo = read_image(tmp_path / "a.jpg")
    long = cases.packet(f"<dc:title>{'x' * 64_500}</dc:title>")
    write_image(tmp_path / "b.jpg", photo.samples, photo.__class__(**{**vars(photo), "xmp": long}))
    assert read_image(tmp_path / "b.jpg").xmp == long
    assert "gain map (HDR)" in caplog.text
