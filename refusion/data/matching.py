"""Matching of photos by names that differ only in a suffix, and checks of the matched photos.

Examples: `01_hazy.png` and `01_GT.png`, `0001_L.png` and `0001_R.png`, `00000.src.jpg` and
`00000.tgt.jpg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from refusion.errors import ConfigError
from refusion.images.cache import list_photos, upright_size


def photos_by_name(
    folder: str | Path, suffixes: Sequence[str], role: str, setting: str
) -> list[dict[str, Path]]:
    """Group the photos of a folder by suffix, and map their names without suffix to their paths.

    Args:
        folder: searched recursively; a name includes the sub-folder.
        suffixes: ends of the file names, before the extension; the first one that matches is used.
        role: name of the folder setting, for messages.
        setting: name of the suffix setting, for messages.

    Returns:
        One mapping name -> path per suffix.

    Raises:
        ConfigError: the folder is missing or empty, a file name has none of the suffixes, or two
            photos have the same name.
    """
    found: list[dict[str, Path]] = [{} for _ in suffixes]
    for path in list_photos([folder], role):
        matches = [number for number, end in enumerate(suffixes) if path.stem.endswith(end)]
        if not matches:
            expected = " or ".join(f"'{end}'" for end in suffixes)
            raise ConfigError(f"{role}: '{path}' does not end in {setting} {expected}")
        group = found[matches[0]]
        stem = path.stem.removesuffix(suffixes[matches[0]])
        name = (path.relative_to(folder).parent / stem).as_posix() if stem else ""
        if not stem or name in group:
            raise ConfigError(
                f"{role}: '{path}' and '{group.get(name, setting)}' have the same name"
            )
        group[name] = path
    return found


def match(groups: Mapping[str, Mapping[str, object]], advice: str) -> list[str]:
    """Return the sorted names of all groups, after a check that the groups have the same names.

    Args:
        groups: group title, for messages -> members by name.
        advice: end of the message: how to correct members without partner.

    Raises:
        ConfigError: a member has no partner in another group; the message lists up to ten.
    """
    names = sorted(set().union(*groups.values()))
    unmatched = []
    for name in names:
        member = next(group[name] for group in groups.values() if name in group)
        shown = member if isinstance(member, Path) else name
        missing = [title for title, group in groups.items() if name not in group]
        unmatched += [f"'{shown}' (none in {title})" for title in missing]
    if unmatched:
        listed = _shorten(unmatched)
        raise ConfigError(
            f"{len(unmatched)} photos have no partner of the same name: {listed}; {advice}"
        )
    return names


def check_ground_truth(key: str, patch: int | None, *, is_there: bool) -> None:
    """Raise `ConfigError` if crops, which are for training, have no ground truth.

    Args:
        key: name of the ground truth setting, for the message.
        patch: side of the crop in pixels; None for whole photos, which need no ground truth.
        is_there: whether there is ground truth.
    """
    if patch is not None and not is_there:
        raise ConfigError(f"{key}: no ground truth, which crops (patch: {patch}) need to train on")


def check_sizes(
    samples: Iterable[Sequence[Path]], scales: Sequence[int], side: int | None, max_side: int
) -> None:
    """Check that the photos of each sample have matching sizes and are large enough for the crop.

    Args:
        samples: paths of the photos of each sample.
        scales: required size of each photo as a multiple of the size of the first; the first is 1.
        side: side of the crop in the first photo in pixels, or None for whole photos.
        max_side: photos are shrunk to this longest side before cropping.

    Raises:
        ConfigError: sizes do not match or a photo is too small; the message lists up to ten.
        ImageError: a photo cannot be read.
    """
    errors = []
    for paths in samples:
        sizes = [upright_size(path) for path in paths]
        width, height = sizes[0]
        expected = [(width * scale, height * scale) for scale in scales]
        wrong = [number for number, size in enumerate(sizes) if size != expected[number]]
        if wrong:
            first, other = _size_text(sizes[0]), _size_text(sizes[wrong[0]])
            wanted = _size_text(expected[wrong[0]])
            errors.append(
                f"'{paths[0]}' is {first} but '{paths[wrong[0]]}' {other}, expected {wanted}"
            )
        elif side and int(min(sizes[0]) * min(1.0, max_side / max(sizes[0]))) < side:
            errors.append(
                f"'{paths[0]}' ({_size_text(sizes[0])}) is smaller than the patch of {side}"
            )
    if errors:
        raise ConfigError(f"{len(errors)} samples cannot be used: {_shorten(errors)}")


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shorten(lines: Sequence[str], limit: int = 10) -> str:
    """Join lines; of the lines after the limit, only the number is given."""
    more = f" and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more
