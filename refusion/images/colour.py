"""ICC profiles (ICC.1:2022) for colour spaces that a file states in another way.

The chunks of a PNG, the property nclx of HEIC and AVIF, and the header of JPEG XL define a colour
space by numbers. Other formats have no place for these numbers. A profile with a matrix and a
parametric curve states the same.
"""

from __future__ import annotations

import struct

import numpy as np

from refusion.images.png_read import chunk
from refusion.images.png_text import split_chunks

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65 = (0.3127, 0.3290)
# White, red, green and blue as x, y.
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# Code points of ITU-T H.273: colour primaries, and curves as exponent or as (g, a, b, c, d).
_PRIMARIES = {
    1: _SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES = {
    1: _VIDEO_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _VIDEO_CURVE,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _VIDEO_CURVE,
    15: _VIDEO_CURVE,
}
_UNSPECIFIED, _SRGB_PRIMARIES, _SRGB_TRANSFER, _VIDEO = 2, 1, 13, (1, 6)
_SRGB_EXPONENT = 2.2  # of a gAMA chunk of 1 / 2.2, which stands for sRGB


def profile_of_png(chunks: bytes, *, is_gray: bool) -> tuple[bytes | None, str | None]:
    """ICC profile for the chunks cICP, sRGB, gAMA and cHRM, in this order of precedence.

    Args:
        chunks: complete chunks, as `Photo.png_colour`.
        is_gray: whether the profile is for a gray image.

    Returns:
        The profile, None for sRGB, which needs none; and the name of a colour space that no
        profile of this kind can state, None otherwise.
    """
    found = dict(split_chunks(chunks))
    if b"cICP" in found:
        primaries, transfer, matrix, is_full = found[b"cICP"]
        points, curve = _PRIMARIES.get(primaries), _CURVES.get(transfer)
        if points is None or curve is None or matrix != 0 or is_full != 1:
            return None, f"colour space cICP {primaries}/{transfer}/{matrix}/{is_full}"
    elif b"sRGB" in found or b"gAMA" not in found:
        unknown = b"sRGB" not in found and b"cHRM" in found and _points(found[b"cHRM"]) != _SRGB
        return None, "primaries cHRM without gAMA" if unknown else None
    else:
        gamma = struct.unpack(">I", found[b"gAMA"])[0]
        points = _points(found[b"cHRM"]) if b"cHRM" in found else _SRGB
        if not 1000 <= gamma <= 10_000_000 or not _is_sound(points):
            return None, f"colour space gAMA {gamma}"
        curve = (100_000 / gamma,)
    is_srgb_curve = curve == _SRGB_CURVE or (
        len(curve) == 1 and abs(curve[0] - _SRGB_EXPONENT) < 0.005
    )
    if is_srgb_curve and (is_gray or np.allclose(points, _SRGB, atol=0.002)):
        return None, None
    return (_gray_profile(points, curve) if is_gray else _rgb_profile(points, curve)), None


def cicp_chunk(primaries: int, transfer: int) -> bytes:
    """PNG chunk cICP for code points of ITU-T H.273, as `Photo.png_colour`; empty for sRGB.

    Args:
        primaries: code of the primaries; 2 (unspecified) stands for those of sRGB.
        transfer: code of the curve; 2 stands for that of sRGB, as do 1 and 6 for its primaries,
            because photos with the curve of video (ITU-R BT.709) are shown in this way.
    """
    primaries = _SRGB_PRIMARIES if primaries == _UNSPECIFIED else primaries
    likes_srgb = transfer in _VIDEO and primaries == _SRGB_PRIMARIES
    if transfer == _UNSPECIFIED or likes_srgb:
        transfer = _SRGB_TRANSFER
    if (primaries, transfer) == (_SRGB_PRIMARIES, _SRGB_TRANSFER):
        return b""
    return chunk(b"cICP", bytes((primaries & 255, transfer & 255, 0, 1)))


def has_code_points(chunks: bytes) -> bool:
    """Whether the chunks of a PNG, as `Photo.png_colour`, state code points (chunk cICP)."""
    return b"cICP" in dict(split_chunks(chunks))


def code_points(chunks: bytes) -> tuple[int, int]:
    """Codes of the primaries and the curve of a chunk cICP; those of sRGB without such a chunk.

    Args:
        chunks: complete chunks, as `Photo.png_colour`.
    """
    content = dict(split_chunks(chunks)).get(b"cICP")
    return (content[0], content[1]) if content else (_SRGB_PRIMARIES, _SRGB_TRANSFER)


def rec2020_profile() -> bytes:
    """ICC profile with the primaries of ITU-R BT.2020 and the curve of sRGB."""
    return _rgb_profile(_PRIMARIES[9], _SRGB_CURVE, "Rec. 2020 with the curve of sRGB")


def srgb_primaries_profile(gamma: float | None, *, is_gray: bool) -> bytes:
    """ICC profile with the primaries of sRGB and a power function, or None: the curve of sRGB.

    Args:
        gamma: exponent from code values to light; None for the curve of sRGB.
        is_gray: whether the profile is for a gray image.
    """
    return custom_profile(_SRGB, gamma, is_gray=is_gray)


def custom_profile(points: tuple[float, ...], gamma: float | None, *, is_gray: bool) -> bytes:
    """ICC profile for white and primaries, and a power function or the curve of sRGB.

    Args:
        points: white, red, green and blue as x, y.
        gamma: exponent from code values to light; None for the curve of sRGB.
        is_gray: whether the profile is for a gray image.

    Raises:
        ValueError: the points span no colour space.
    """
    curve = _SRGB_CURVE if gamma is None else (gamma,)
    if not _is_sound(points):
        raise ValueError("primaries that span no colour space")
    return _gray_profile(points, curve) if is_gray else _rgb_profile(points, curve)


def _points(content: bytes) -> tuple[float, ...]:
    return tuple(value / 100_000 for value in struct.unpack(">8I", content))


def _is_sound(points: tuple[float, ...]) -> bool:
    """Whether white and primaries span a colour space."""
    if min(points[1::2]) <= 0:
        return False
    matrix = np.array([_xyz(*points[at : at + 2]) for at in (2, 4, 6)]).T
    return max(points) <= 1 and abs(np.linalg.det(matrix)) > 1e-3


def _xyz(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _to_d50(white: tuple[float, float, float]) -> np.ndarray:
    """Bradford adaptation (3, 3) from a white to D50, the white of profiles."""
    cones = _BRADFORD @ np.array([white, _D50]).T
    return np.linalg.inv(_BRADFORD) @ np.diag(cones[:, 1] / cones[:, 0]) @ _BRADFORD


def _rgb_profile(
    points: tuple[float, ...], curve: tuple[float, ...], name: str = "Colour space of a PNG"
) -> bytes:
    white = np.array(_xyz(*points[:2]))
    primaries = np.array([_xyz(*points[at : at + 2]) for at in (2, 4, 6)]).T
    adapt = _to_d50(tuple(white))
    colorants = adapt @ (primaries * np.linalg.solve(primaries, white))
    tags = {b"rXYZ": _triple(colorants[:, 0]), b"gXYZ": _triple(colorants[:, 1])}
    tags |= {b"bXYZ": _triple(colorants[:, 2]), b"chad": b"sf32" + bytes(4) + _fixed(*adapt.flat)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve))
    return _profile(b"RGB ", tags, name)


def _gray_profile(points: tuple[float, ...], curve: tuple[float, ...]) -> bytes:
    adapt = _to_d50(_xyz(*points[:2]))
    chad = b"sf32" + bytes(4) + _fixed(*adapt.flat)
    return _profile(b"GRAY", {b"kTRC": _curve(curve), b"chad": chad})


def _profile(space: bytes, tags: dict[bytes, bytes], name: str = "Colour space of a PNG") -> bytes:
    """Profile of a display: header of 128 bytes, table of tags, contents."""
    tags = {b"desc": _text(name), b"cprt": _text("No copyright")} | tags
    tags[b"wtpt"] = _triple(_D50)
    table, contents, places = struct.pack(">I", len(tags)), b"", {}
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(contents)
            contents += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    head = struct.pack(
        ">I4sI4s4s4s", start + len(contents), bytes(4), 0x04400000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + table + contents


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _triple(values: tuple[float, float, float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _curve(values: tuple[float, ...]) -> bytes:
    """Parametric curve: X^g, or (a X + b)^g from d on and c X below."""
    kind = {1: 0, 5: 3}[len(values)]
    return b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(*values)


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(content), 28) + content
