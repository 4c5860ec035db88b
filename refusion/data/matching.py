"""Which photos belong together: names that agree but for an ending, and a list of those left over.

`01_hazy.png` and `01_GT.png`, `0001_L.png` and `0001_R.png`, `00000.src.jpg` and `00000.tgt.jpg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from refusion.errors import ConfigError
from refusion.images.cache import list_photos, upright_size


def photos_by_name(
    folder: str | Path, suffixes: Sequence[str], role: str, setting: str
) -> list[dict[str, Path]]:
    """Photos of a folder by the name they share with their partners, one mapping per suffix.

    Args:
        folder: searched recursively; the name includes the sub-folder.
        suffixes: ends of the names, before the file ending; the first that fits counts.
        role: what errors call the folder.
        setting: what errors call the suffixes.

    Raises:
        ConfigError: the folder is missing or empty, a name ends in no suffix, or one comes twice.
    """
    found: list[dict[str, Path]] = [{} for _ in suffixes]
    for path in list_photos([folder], role):
        fits = [number for number, end in enumerate(suffixes) if path.stem.endswith(end)]
        if not fits:
            expected = " or ".join(f"'{end}'" for end in suffixes)
            raise ConfigError(f"{role}: '{path}' does not end in {setting} {expected}")
        group = found[fits[0]]
        stem = path.stem.removesuffix(suffixes[fits[0]])
        name = (path.relative_to(folder).parent / stem).as_posix() if stem else ""
        if not stem or name in group:
            raise ConfigError(f"{role}: '{path}' and '{group.get(name, setting)}' have one name")
        group[name] = path
    return found


def match(groups: Mapping[str, Mapping[str, object]], advice: str) -> list[str]:
    """Names that all groups share, sorted, where there are no others.

    Args:
        groups: what the error calls a group -> what it holds by name.
        advice: what to do about members without partners; ends the error.

    Raises:
        ConfigError: a member has no partner in another group; up to ten are listed.
    """
    names = sorted(set().union(*groups.values()))
    alone = []
    for name in names:
        member = next(group[name] for group in groups.values() if name in group)
        shown = member if isinstance(member, Path) else name
        missing = [title for title, group in groups.items() if name not in group]
        alone += [f"'{shown}' (none in {title})" for title in missing]
    if alone:
        raise ConfigError(
            f"{len(alone)} photos have no partner of the same name: {_shorten(alone)}; {advice}"
        )
    return names


def check_truth(key: str, patch: int | None, *, is_there: bool) -> None:
    """Refuse crops, which are to train on, without ground truth.

    Args:
        key: what the error calls the ground truth.
        patch: side of the crop in pixels; None for whole photos, which need none.
        is_there: whether there is ground truth.

    Raises:
        ConfigError: crops without it.
    """
    if patch is not None and not is_there:
        raise ConfigError(f"{key}: no ground truth, which crops (patch: {patch}) need to train on")


def check_sizes(
    samples: Iterable[Sequence[Path]], scales: Sequence[int], side: int | None, max_side: int
) -> None:
    """Check that the photos of each sample fit each other and the crop.

    Args:
        samples: photos that belong together.
        scales: size of each as a multiple of the first one's; the first is 1.
        side: side of the crop in the first, or None for whole photos.
        max_side: photos are shrunk to this longest side before cropping.

    Raises:
        ConfigError: listing up to ten faults.
        ImageError: a photo cannot be read.
    """
    faults = []
    for paths in samples:
        sizes = [upright_size(path) for path in paths]
        width, height = sizes[0]
        expected = [(width * scale, height * scale) for scale in scales]
        wrong = [number for number, size in enumerate(sizes) if size != expected[number]]
        if wrong:
            one, ours, wanted = (_times(sizes[0]), _times(sizes[wrong[0]]), expected[wrong[0]])
            faults.append(
                f"'{paths[0]}' is {one} but '{paths[wrong[0]]}' {ours}, expected {_times(wanted)}"
            )
        elif side and int(min(sizes[0]) * min(1.0, max_side / max(sizes[0]))) < side:
            faults.append(f"'{paths[0]}' ({_times(sizes[0])}) is smaller than the patch of {side}")
    if faults:
        raise ConfigError(f"{len(faults)} samples cannot be used: {_shorten(faults)}")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shorten(lines: Sequence[str], limit: int = 10) -> str:
    """The lines in one, those above the limit only counted."""
    more = f" and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more
