"""`refusion tasks`: lists the shipped models."""

from __future__ import annotations

from refusion.cli.common import Parser, show
from refusion.weights import ABOUT, shipped_weights


def run(argv: list[str]) -> int:
    """Show what each shipped model does, what it needs and how good it is; returns 0."""
    build_parser().parse_args(argv)
    files = shipped_weights()
    for task in filter(files.__contains__, ABOUT):
        about = ABOUT[task]
        show(f"refusion {task} PHOTO ...   {about.does}")
        if about.needs:
            show(f"    needs: {about.needs}")
        show(f"    measured: {about.measured}", f"    model card: {files[task].with_suffix('.md')}")
    return 0


def build_parser() -> Parser:
    """Define the options of the command."""
    return Parser(
        prog="refusion tasks",
        description="List the shipped models: what they do, what they need, and a result on photos "
        "that were not used for training (PSNR of the input and of the result).",
    )
