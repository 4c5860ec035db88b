"""Option `--html`: one self-contained page with the scores and a slider over each photo."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError, ImageError, printable
from refusion.files import atomic_write

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from torch import Tensor

    from refusion.evaluation.photos import Photos
    from refusion.evaluation.scoring import Baseline, Evaluation, Score
    from refusion.tiling.regions import Region

logger = logging.getLogger(__name__)

SIDE = 1280  # pixels of the longer side of a picture under a slider
SMALL = 240  # the same for the pictures beside each other; five fit into the page
CROP = 240  # side in pixels of the parts that are shown at 100 %
DETAILED = 40  # at most so many photos of a set have such parts, so that pages stay small

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1320px;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
.pair{position:relative;margin:.5rem 0 0;--x:50%;line-height:0}
.pair img{width:100%}
.pair .before{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--x)) 0 0)}
.pair input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
.pair::after{content:"";position:absolute;top:0;bottom:0;left:var(--x);width:2px;background:#fff;
pointer-events:none}
.pair:focus-within{outline:2px solid #06c}
figure{margin:2rem 0}
.pictures{overflow-x:auto}
.pictures td,.pictures th{padding:2px;text-align:left;border:0;font-size:13px;font-weight:normal}
"""
_SCRIPT = """
for (const slider of document.querySelectorAll(".pair input"))
  slider.addEventListener("input", () =>
    slider.parentElement.style.setProperty("--x", slider.value + "%"));
"""


@dataclass(frozen=True)
class PageSet:
    """One set on the page.

    Attributes:
        name: heading.
        photos: the set; its photos are read again, to show the input.
        evaluation: scores of the set.
        files: files of the result of each photo, in the order of the set; two of a stereo pair.
        notes: lines below the table of means.
        baselines: methods whose results are also shown, by name; they restore the photos again.
        beside: files of pictures that are also shown, by title and then by the name of the photo.
    """

    name: str
    photos: Photos
    evaluation: Evaluation
    files: Sequence[Sequence[Path]]
    notes: Sequence[str]
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def write_page(path: Path, title: str, sets: Iterable[PageSet]) -> None:
    """Write the page; after an error an older file is left unchanged.

    Pictures are embedded as JPEG, shrunk to `SIDE` pixels; the page loads nothing else. Photos are
    in ascending order of PSNR; without ground truth they are in the order of the set. Below the
    slider of a photo, input, baselines, result and ground truth stand beside each other, reduced;
    for the first `DETAILED` photos of a set also in parts at 100 %.

    Args:
        path: the file.
        title: heading of the page.
        sets: in the order of the page.

    Raises:
        ConfigError: the file cannot be written.
        ImageError: a photo cannot be read.
    """
    try:
        with atomic_write(path) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(_page(title, sets))  # one picture at a time, to save memory
    except OSError as error:
        raise ConfigError(f"--html: cannot write '{path}': {error.strerror}") from error


def photos_beside(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """Files of folders by title, and then by name: the path in the folder without suffix.

    Args:
        folders: folders of pictures by title.

    Raises:
        ConfigError: a folder is missing or has no photos.
    """
    from refusion.images.cache import list_photos

    return {
        title: {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for path in list_photos([folder], "--beside")
        }
        for title, folder in folders.items()
    }


def _page(title: str, sets: Iterable[PageSet]) -> Iterator[str]:
    shown = _text(title)
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{shown}</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<style>{_STYLE}</style></head>\n<body><h1>{shown}</h1>\n"
    for one in sets:
        yield f"<h2>{_text(one.name)}</h2>\n"
        mean = one.evaluation.mean
        yield _table("mean of all photos", mean.methods)
        yield "".join(f"<p>{_text(note)}</p>\n" for note in one.notes)
        for place, index in enumerate(_worst_first(one.evaluation.rows)):
            yield from _figure(one, index, is_detailed=place < DETAILED)
    yield f"<script>{_SCRIPT}</script></body></html>\n"


def _worst_first(rows: Sequence[Score]) -> list[int]:
    from refusion.evaluation.scoring import RANK_BY

    return sorted(range(len(rows)), key=lambda index: rows[index].result.get(RANK_BY, 0.0))


def _figure(one: PageSet, index: int, *, is_detailed: bool) -> Iterator[str]:
    import torch

    from refusion.evaluation.crops import telling_crops
    from refusion.images.io import read_image
    from refusion.images.resize import resize_like

    row = one.evaluation.rows[index]
    item = one.photos[index]
    result = torch.cat([read_image(file).image for file in one.files[index]])
    given = resize_like(item["lq"][None], result[None])[0]
    name = _text(row.name)
    yield f"<figure><figcaption><h3>{name}</h3></figcaption>\n"
    yield f'<div class="pair"><img class="after" alt="{name}: result" src="{_picture(result)}">\n'
    yield f'<img class="before" alt="{name}: input" src="{_picture(given)}">\n'
    yield f'<input type="range" min="0" max="100" value="50" aria-label="{name}: input, result">'
    yield f"</div>\n{_table(f'{row.seconds:.2f} s', row.methods)}\n"
    crops = telling_crops(given, result, CROP) if is_detailed else {}
    yield from _pictures(_beside(one, row.name, item, given, result), crops, name)
    yield "</figure>\n"


def _beside(
    one: PageSet, name: str, item: Mapping[str, Any], given: Tensor, result: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Pictures of a photo by title, one at a time to save memory."""
    from refusion.images.io import read_image
    from refusion.restorers.base import Conditions

    yield "input", given
    for title, method in one.baselines.items():
        yield title, method(item["lq"][None], Conditions.from_item(item))[0]
    yield "result", result
    for title, files in one.beside.items():
        if name in files:
            try:
                yield title, read_image(files[name]).image
            except ImageError as error:  # the scores are worth more than one more picture
                logger.warning("not on the page: %s", error)
    if "gt" in item:
        yield "ground truth", item["gt"]


def _pictures(
    shown: Iterable[tuple[str, Tensor]], crops: Mapping[str, Region], name: str
) -> Iterator[str]:
    """A table: a column per picture, and a row for the whole photo and for each crop."""
    size, columns = None, []
    for title, image in shown:
        size = image.shape[-2:] if size is None else size
        parts = {"reduced": _picture(image, SMALL)}
        if image.shape[-2:] == size:
            parts |= {f"100 %: {key}": _picture(crop.cut(image)) for key, crop in crops.items()}
        columns.append((title, parts))
    yield '<div class="pictures"><table>\n<tr><th></th>'
    yield "".join(f"<th>{_text(title)}</th>" for title, _ in columns) + "</tr>\n"
    for part in columns[0][1]:
        yield f"<tr><th>{part}</th>"
        for title, parts in columns:
            alt = f"{name}: {_text(title)}, {part}"
            image = f'<img alt="{alt}" src="{parts[part]}">' if part in parts else ""
            yield f"<td>{image}</td>"
        yield "</tr>\n"
    yield "</table></div>\n"


def _text(text: str) -> str:
    """A text inside HTML, also inside an attribute."""
    return html.escape(printable(text), quote=True)


def _picture(image: Tensor, side: int = SIDE) -> str:
    """A photo as a data URL; the two views of a stereo pair are put side by side."""
    import torch

    from refusion.images.encode import encode
    from refusion.images.photo import Photo
    from refusion.images.resize import shrink

    small = torch.cat(shrink(image[None], side)[0].split(3), dim=-1)
    file = io.BytesIO()
    encode(file, "JPEG", small, Photo(small), "page")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _table(corner: str, methods: Mapping[str, Mapping[str, float]]) -> str:
    names = list(methods["result"])
    if not names:
        return f"<p>{_text(corner)}</p>\n"
    head = "".join(f"<th>{_text(name)}</th>" for name in (corner, *names))
    lines = [f"<tr>{head}</tr>"]
    for method, values in methods.items():
        cells = "".join(f"<td>{values[key]:.4f}</td>" for key in names if key in values)
        lines.append(f"<tr><td>{_text(method)}</td>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>\n"
