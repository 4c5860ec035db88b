"""Details of metadata that the table of the page does not show."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import metadata_cases as cases
import numpy as np
import pytest
import torch
from image_cases import exif_block, noise, png_16
from PIL import Image, ImageCms

from refusion.images.colour import profile_of_png
from refusion.images.exif import exif_texts
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.xmp import FILM, GAIN_MAP, upright_xmp, without_claims

SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def gamma(value):
    return cases.chunk(b"gAMA", struct.pack(">I", value))


def primaries(points):
    return cases.chunk(b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in points)))


def cicp(*codes):
    return cases.chunk(b"cICP", bytes(codes))


def to_srgb(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def shown(icc, colour):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode = "L" if isinstance(colour, int) else "RGB"
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", 1)
    image = ImageCms.applyTransform(Image.new(mode, (1, 1), colour), transform)
    return np.array(image.getpixel((0, 0)))


@pytest.mark.parametrize("exponent", [25000, 55556, 100000, 200000])
def test_a_gamma_becomes_the_curve_of_a_profile(exponent):
    """The chunk holds the exponent of encoding; the light is the sample to its inverse."""
    light = np.array([30, 120, 220]) / 255
    expected = to_srgb(light ** (100000 / exponent))
    icc, unknown = profile_of_png(gamma(exponent), is_gray=False)
    assert unknown is None and np.abs(shown(icc, (30, 120, 220)) - expected).max() <= 1
    gray, _ = profile_of_png(gamma(exponent), is_gray=True)
    assert np.abs(shown(gray, 120) - expected[1]).max() <= 1


def test_primaries_become_the_matrix_of_a_profile():
    """Adobe RGB (1998), and the same colour in sRGB by the published matrix."""
    icc, _ = profile_of_png(gamma(45470) + primaries(ADOBE), is_gray=False)
    light = (np.array([100, 150, 100]) / 255) ** 2.199
    to_linear_srgb = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
    assert np.abs(shown(icc, (100, 150, 100)) - to_srgb(to_linear_srgb @ light)).max() <= 1


def test_display_p3_and_video_become_profiles():
    icc, unknown = profile_of_png(cicp(12, 13, 0, 1), is_gray=False)
    assert unknown is None and np.abs(shown(icc, (200, 100, 50)) - [215, 93, 31]).max() <= 1
    icc, _ = profile_of_png(cicp(1, 8, 0, 1), is_gray=False)
    assert np.abs(shown(icc, (50, 120, 200)) - to_srgb(np.array([50, 120, 200]) / 255)).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        gamma(45455),
        gamma(45455) + primaries(SRGB),
        cases.chunk(b"sRGB", b"\0") + gamma(45455),
        cicp(1, 13, 0, 1) + gamma(100000),  # cICP takes precedence
        cases.chunk(b"sRGB", b"\0") + gamma(100000),  # so does sRGB
        primaries(SRGB),
    ],
)
def test_srgb_needs_no_profile(chunks):
    assert profile_of_png(chunks, is_gray=False) == (None, None)


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        (cicp(9, 16, 0, 1), "cICP 9/16/0/1"),
        (cicp(9, 18, 0, 1), "cICP 9/18/0/1"),
        (cicp(1, 13, 1, 1), "cICP 1/13/1/1"),
        (cicp(1, 13, 0, 0), "cICP 1/13/0/0"),
        (cicp(2, 2, 0, 1), "cICP 2/2/0/1"),
        (primaries(ADOBE), "cHRM"),
        (gamma(0), "gAMA 0"),
        (gamma(100000) + primaries((0.0,) * 8), "gAMA"),
        (gamma(100000) + primaries((0.3,) * 8), "gAMA"),
    ],
)
def test_colours_that_no_profile_states_are_named(tmp_path, caplog, chunks, name):
    data = cases.png()
    (tmp_path / "a.png").write_bytes(data[:33] + chunks + data[33:])
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.jpg", photo.samples, photo)
    assert name in caplog.text and read_image(tmp_path / "b.jpg").icc is None
    write_image(tmp_path / "b.png", photo.samples, photo)
    assert chunks in (tmp_path / "b.png").read_bytes()


def test_the_resolution_turns_with_the_photo(tmp_path):
    Image.fromarray(noise(9, 5, 3)).save(tmp_path / "a.png", dpi=(300, 200), exif=exif_block(6))
    assert read_image(tmp_path / "a.png").dpi == pytest.approx((200, 300), abs=0.02)


def test_long_blocks_of_a_jpeg_are_divided_by_the_specification(tmp_path):
    extended = cases.packet(f"<dc:source>{'long ' * 40000}</dc:source>")
    main, parts = cases.extended_segments(b"<x/>")
    name = parts[1][1][35:67].decode()
    photo = Photo(
        torch.rand(3, 4, 4),
        xmp=main,
        xmp_extended=extended,
        photoshop=cases.resource(0x0BB7, bytes(150_000)),
    )
    write_image(tmp_path / "a.jpg", photo.samples, photo)
    found = list(cases.segments((tmp_path / "a.jpg").read_bytes()))
    pieces = [part[35:] for _, part in found if part.startswith(cases.EXTENDED_HEADER)]
    assert len(pieces) == 4
    at = 0
    for piece in pieces:
        length, offset = struct.unpack_from(">II", piece, 32)
        assert piece[:32].decode() == name and (length, offset) == (len(extended), at)
        assert extended[at:].startswith(piece[40:])
        at += len(piece) - 40
    assert at == len(extended)
    assert len([part for _, part in found if part.startswith(b"Photoshop 3.0\0")]) == 3
    assert read_image(tmp_path / "a.jpg").photoshop == photo.photoshop


def test_a_long_exif_block_loses_no_more_than_it_must(tmp_path):
    texts = {0x010E: "d" * 30000, 0x010F: "m" * 20000, 0x0110: "n" * 20000, 0x8298: "(c) Io"}
    photo = Photo(torch.rand(3, 4, 4), exif=cases.exif(texts, note=bytes(60000)))
    write_image(tmp_path / "a.jpg", photo.samples, photo)
    tags = cases.exif_tags((tmp_path / "a.jpg").read_bytes())
    assert 0x010E not in tags
    assert (len(tags[0x010F]), len(tags[0x0110]), tags[0x8298]) == (20000, 20000, "(c) Io")


def test_texts_do_not_replace_those_of_the_exif_block(tmp_path, caplog):
    texts = [(b"tEXt", b"Author\0Jo"), (b"tEXt", b"Copyright\0(c) Io"), (b"tEXt", b"Title\0Sea")]
    block = cases.exif({0x013B: "Io", 0x8298: "(c) Io"})
    (tmp_path / "a.png").write_bytes(cases.png((b"eXIf", block), *texts))
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.webp", photo.samples, photo)
    found = exif_texts(read_image(tmp_path / "b.webp").exif)
    assert found == {0x013B: "Io", 0x8298: "(c) Io", 0x9C9B: "Sea"}
    assert caplog.text.count("dropped") == 1 and "text 'Author'" in caplog.text


def test_nothing_in_an_exif_block_moves_when_a_text_is_added(tmp_path):
    block = cases.exif()
    (tmp_path / "a.png").write_bytes(
        cases.png((b"eXIf", block), (b"iTXt", b"Author\0\0\0\0\0\xc3\x8do"))
    )
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.webp", photo.samples, photo)
    longer = read_image(tmp_path / "b.webp").exif
    assert longer[8 : len(block)] == block[8:] and exif_texts(longer)[0x013B] == "Ío"
    with Image.open(tmp_path / "b.webp") as image:
        assert image.getexif().get_ifd(0x8769)[0x927C] == b"notes of the camera"


@pytest.mark.parametrize("alpha", [False, True])
def test_significant_bits_follow_the_kind_of_pixels(tmp_path, alpha):
    extra = (b"sBIT", b"\x0a\x0b\x0c")
    (tmp_path / "a.png").write_bytes(png_16(noise(4, 4, 3, np.uint16), extra=extra))
    photo = read_image(tmp_path / "a.png")
    photo = replace(photo, alpha=torch.ones(1, 4, 4)) if alpha else photo
    write_image(tmp_path / "b.png", photo.samples, photo)
    chunks = dict(cases.chunks((tmp_path / "b.png").read_bytes()))
    assert chunks[b"sBIT"] == b"\x0a\x0b\x0c" + b"\x10" * alpha


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_claims_are_removed_in_every_form_of_xml(encoding):
    """Attributes, elements, empty elements, other prefixes, comments and character data."""
    space = "http://ns.adobe.com/hdr-gain-map/1.0/"
    text = (
        f"<x:xmpmeta xmlns:x='adobe:ns:meta/' xmlns:q = \"{space}\"><!-- <q:a/> -->"
        f"<rdf:RDF xmlns:rdf='{cases.RDF}'><rdf:Description q:Version = '>1' x:a=\"a>b\"  />"
        "<rdf:Description><q:Max/><q:Min><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></q:Min>"
        f"<m:MicroVideo xmlns:m='http://ns.x.com/'>1</m:MicroVideo>"
        f"<Version xmlns='{space}'>1</Version><x:b><![CDATA[<q:Max>]]></x:b>&lt;é"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    packet, claims = without_claims(text.encode(encoding), extended=False)
    assert claims == {GAIN_MAP, FILM}
    assert packet.decode() == (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><!-- <q:a/> -->"
        f"<rdf:RDF xmlns:rdf='{cases.RDF}'><rdf:Description x:a=\"a>b\"  />"
        "<rdf:Description><x:b><![CDATA[<q:Max>]]></x:b>&lt;é"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def test_a_photo_that_is_no_motion_photo_keeps_its_name_out_of_the_warning():
    packet = cases.packet("", 'xmlns:c="http://ns.google.com/photos/1.0/camera/" c:MotionPhoto="0"')
    edited, claims = without_claims(packet, extended=False)
    assert claims == set() and b"MotionPhoto" not in edited


@pytest.mark.parametrize("document", ["<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY b "c">]>'])
def test_a_document_type_is_refused_however_small(document):
    packet = document.encode() + cases.packet("")
    assert without_claims(packet, extended=False)[0] is None


def test_the_orientation_is_reset_under_any_prefix():
    packet = cases.packet(
        "<t:Orientation> 6 </t:Orientation>", 'xmlns:t="http://ns.adobe.com/tiff/1.0/"'
    )
    assert upright_xmp(packet) == packet.replace(b"> 6 <", b">1<")


def test_the_size_in_xmp_is_that_of_the_result(tmp_path):
    spaces = 'xmlns:t="http://ns.adobe.com/tiff/1.0/" xmlns:e="http://ns.adobe.com/exif/1.0/"'
    form = "<t:ImageWidth>{0}</t:ImageWidth><e:PixelYDimension>{1}</e:PixelYDimension>"
    block, packet = exif_block(6)[6:], cases.packet(form.format(5, 9), spaces)
    (tmp_path / "a.png").write_bytes(
        cases.png((b"eXIf", block), (b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet))
    )
    photo = read_image(tmp_path / "a.png")
    assert photo.xmp == cases.packet(form.format(9, 5), spaces)
    write_image(tmp_path / "b.jpg", torch.rand(3, 10, 18), photo)
    assert read_image(tmp_path / "b.jpg").xmp == cases.packet(form.format(18, 10), spaces)
