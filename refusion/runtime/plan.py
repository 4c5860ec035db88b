"""Check of the plan in an ONNX file, which may come from an unknown source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_COLUMN = re.compile(r"mu|noise|(state|output)[0-9]")
_LONGEST_SIDE = 2**16  # pixels
_MOST_STEPS = 10_000
_LARGEST = 1e6  # of the numbers
_NUMBERS = {
    "haze": ("window", "smoothness", "min_transmission", "gamma"),
    "copy": ("side", "window", "smoothness"),
    "change": ("side", "radius", "dark"),
    "noise": ("largest", "block", "most_blocks", "smooth_share", "coarse_share", "negligible",
              "flat", "most_flat", "penalty"),
}  # fmt: skip
"""Numbers above 0 of each part; each is small, so that no window needs much memory."""
_WHOLE = {"copy": ("side", "window"), "change": ("side", "radius"),
          "noise": ("block", "most_blocks")}  # fmt: skip
"""Those of them that are whole."""
_LEAST_GAMMA = 0.1
_LARGEST_SCALE = 10  # of the optical depth
_LARGEST_WINDOW = 1001  # pixels
_LARGEST_STRENGTH = 2
_LARGEST_RATIO = 10.0  # logarithm of a ratio of brightness
_LARGEST_RING = 64  # pixels
_MOST_COLUMNS = 32
_SHARES = {
    "change": ("dark",),
    "noise": ("largest", "smooth_share", "coarse_share", "negligible", "flat", "most_flat"),
}
"""Numbers that are at most 1: shares, and values of photos."""
_SIDES = {"change": ("side", "radius"), "noise": ("block",)}
"""Numbers of pixels: a huge one would take any amount of memory."""


def is_valid(plan: object) -> bool:
    """Whether a plan has all values that a restoration uses, of the right types and ranges.

    Args:
        plan: part 'runtime' of the description in a file.
    """
    try:
        return _is_valid(plan)
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


def _is_valid(plan: Mapping[str, Any]) -> bool:
    process = plan.get("process", {})
    parts = plan | ({"noise": process["noise"]} if "noise" in process else {})
    checks = [
        isinstance(plan["task"], str),
        all(_is_side(plan[key]) for key in ("factor", "tile")),
        _are_rising(plan["strengths"], 2) and _is_range(plan["flat"]),
        all(abs(strength) <= _LARGEST_STRENGTH for strength in plan["strengths"]),
        all(parts[name][key] <= 1 for name, keys in _SHARES.items() if name in parts
            for key in keys),
        all(_is_side(parts[name][key]) for name, keys in _SIDES.items() if name in parts
            for key in keys),
        all(_has_numbers(parts[name], keys) for name, keys in _NUMBERS.items() if name in parts),
        all(type(parts[name][key]) is int for name, keys in _WHOLE.items() if name in parts
            for key in keys),
        "change" not in plan or _is_change(plan["change"]),
        "copy" not in plan or _is_copy(plan["copy"]),
        "haze" not in plan or _is_haze(plan["haze"]),
        "process" not in plan or _is_process(process),
    ]  # fmt: skip
    return all(checks)


def _is_copy(copy: Mapping[str, Any]) -> bool:
    # A huge window would repeat the border of the copy, which takes any amount of memory.
    is_window = copy["window"] % 2 == 1 and copy["window"] <= _LARGEST_WINDOW
    return _is_side(copy["side"]) and is_window


def _is_change(change: Mapping[str, Any]) -> bool:
    is_window = 2 * change["radius"] + 1 <= _LARGEST_WINDOW
    is_limited = _is_range(change["limits"], _LARGEST_RATIO) and change["limits"][0] > 0
    return is_window and is_limited and ("shadow" not in change or _is_shadow(change["shadow"]))


def _is_shadow(shadow: Mapping[str, Any]) -> bool:
    near, far = shadow["around"]
    pixels = near, far, shadow["reach"], shadow["least"]
    are_whole = all(type(number) is int and number > 0 for number in pixels)
    is_near = near < far <= _LARGEST_RING and shadow["reach"] <= _LARGEST_RING
    ranges = shadow["limits"], shadow["clear"]
    is_limited = all(_is_range(limits, _LARGEST_RATIO) and limits[0] > 0 for limits in ranges)
    shares = shadow["bright"], shadow["darkest"], shadow["weakness"], shadow["eps"]
    are_shares = all(type(share) is float and 0 < share <= 1 for share in shares)
    return are_whole and is_near and shadow["least"] <= _LONGEST_SIDE and is_limited and are_shares


def _is_haze(haze: Mapping[str, Any]) -> bool:
    shares = haze["window"], haze["min_transmission"]  # of the side, of the light
    is_scale = 0 < haze.get("scale", 1) <= _LARGEST_SCALE
    is_curve = haze["gamma"] >= _LEAST_GAMMA and is_scale
    return max(shares) <= 1 and is_curve and _is_range(haze["limits"])


def _is_process(process: Mapping[str, Any]) -> bool:
    tables, noise = process["tables"], process.get("noise")
    count = 1 if noise is None else len(noise["limits"]) + 1
    is_known = noise is None or not noise["limits"] or (
        _are_rising(noise["limits"], count - 1) and noise["limits"][0] >= 0
        and noise["limits"][-1] <= 1
    )  # fmt: skip
    return (
        is_known and 0 <= process["start_std"] < 1 and len(tables) == count
        and all(map(_is_table, tables))
    )  # fmt: skip


def _is_table(table: Mapping[str, Any]) -> bool:
    columns, times, rows = table["columns"], table["times"], table["rows"]
    return (
        1 <= len(columns) <= _MOST_COLUMNS and all(_COLUMN.fullmatch(name) for name in columns)
        and 1 <= len(times) == len(rows) <= _MOST_STEPS
        and all(map(_is_number, times))
        and all(len(row) == len(columns) and all(map(_is_number, row)) for row in rows)
    )  # fmt: skip


def _has_numbers(part: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return all(_is_number(part[key]) and 0 < part[key] <= _LARGEST for key in keys)


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LONGEST_SIDE


def _is_number(value: object) -> bool:
    # Not `math.isfinite`, which raises an error for a whole number of hundreds of digits.
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _is_range(limits: list[float], largest: float = 1.0) -> bool:
    """Whether a value between two limits becomes a share; both are in 0..largest."""
    return _are_rising(limits, 2) and 0 <= limits[0] < limits[1] <= largest


def _are_rising(values: list[float], count: int) -> bool:
    return (
        len(values) == count
        and all(map(_is_number, values))
        and all(a <= b for a, b in pairwise(values))
    )
