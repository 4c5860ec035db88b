"""Option `--html`: one self-contained page with the scores and a slider over each photo."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refusion.errors import ConfigError, printable
from refusion.files import atomic_write

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from torch import Tensor

    from refusion.evaluation.scoring import Evaluation, Photos, Score

SIDE = 1280  # pixels of the longer side of a picture on the page

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
    """

    name: str
    photos: Photos
    evaluation: Evaluation
    files: Sequence[Sequence[Path]]
    notes: Sequence[str]


def write_page(path: Path, title: str, sets: Iterable[PageSet]) -> None:
    """Write the page; after an error an older file is left unchanged.

    Pictures are embedded as JPEG, shrunk to `SIDE` pixels; the page loads nothing else. Photos are
    in ascending order of PSNR; without ground truth they are in the order of the set.

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
        for index in _worst_first(one.evaluation.rows):
            yield from _figure(one, index)
    yield f"<script>{_SCRIPT}</script></body></html>\n"


def _worst_first(rows: Sequence[Score]) -> list[int]:
    from refusion.evaluation.scoring import RANK_BY

    return sorted(range(len(rows)), key=lambda index: rows[index].result.get(RANK_BY, 0.0))


def _figure(one: PageSet, index: int) -> Iterator[str]:
    import torch

    from refusion.images.io import read_image
    from refusion.images.resize import resize_like

    row = one.evaluation.rows[index]
    result = torch.cat([read_image(file).image for file in one.files[index]])
    given = resize_like(one.photos[index]["lq"][None], result[None])[0]
    name = _text(row.name)
    yield f"<figure><figcaption><h3>{name}</h3></figcaption>\n"
    yield f'<div class="pair"><img class="after" alt="{name}: result" src="{_picture(result)}">\n'
    yield f'<img class="before" alt="{name}: input" src="{_picture(given)}">\n'
    yield f'<input type="range" min="0" max="100" value="50" aria-label="{name}: input, result">'
    yield f"</div>\n{_table(f'{row.seconds:.2f} s', row.methods)}</figure>\n"


def _text(text: str) -> str:
    """A text inside HTML, also inside an attribute."""
    return html.escape(printable(text), quote=True)


def _picture(image: Tensor) -> str:
    """A photo as a data URL; the two views of a stereo pair are put side by side."""
    import torch

    from refusion.images.encode import encode
    from refusion.images.photo import Photo
    from refusion.images.resize import shrink

    small = torch.cat(shrink(image[None], SIDE)[0].split(3), dim=-1)
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
