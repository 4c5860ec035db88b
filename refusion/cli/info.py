"""`refusion info`: describes a weights file."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refusion.cli.common import Parser, show
from refusion.cli.options.plugins import add_plugin_option
from refusion.config.plugins import import_plugins
from refusion.errors import printable

if TYPE_CHECKING:  # imports torch, which is too slow for --help
    from refusion.checkpoint import Checkpoint

_SHOWN = 200  # lines


def run(argv: list[str]) -> int:
    """Describe the file named by the arguments.

    Returns:
        0 after the file was described.

    Raises:
        CheckpointError: the file is not a weights file, or is damaged.
    """
    options = build_parser().parse_args(argv)
    import_plugins(options.plugin)
    from refusion.checkpoint import read_checkpoint
    from refusion.weights import find_weights

    facts = describe(read_checkpoint(find_weights(options.file)))
    if options.json:
        sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=True) + "\n")
    else:
        lines = _lines(facts)
        show(*lines[:_SHOWN])
        if len(lines) > _SHOWN:
            show(f"and {len(lines) - _SHOWN} more lines; --json shows all")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Define the options of the command."""
    parser = Parser(
        prog="refusion info",
        description="Describe a weights file: task, architecture, parameters, process, training "
        "summary, licence, hash. Its tensors are checked; no code from the file is run.",
        epilog="Exit code: 0 described, 2 wrong usage or not a weights file.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a .safetensors file, a folder with one, or the name of a shipped model",
    )
    add_plugin_option(parser.add_argument)
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Collect the facts of a weights file.

    Args:
        checkpoint: content of the file.

    Returns:
        JSON values by name.

    Raises:
        CheckpointError: the tensors do not fit the networks of the config.
    """
    from refusion.checkpoint import PARTS, build_model
    from refusion.config import config_to_dict
    from refusion.files import sha256_of

    build_model(checkpoint)
    model = config_to_dict(checkpoint.model)
    info = dict(checkpoint.info)
    licence = info.pop("licence", info.pop("license", None))
    return {
        "file": str(checkpoint.path),
        "bytes": checkpoint.path.stat().st_size,
        "sha256": sha256_of(checkpoint.path),
        "licence": licence or "not stated in the file; see the model card beside it",
        "task": model.pop("task"),
        "parameters": {part: n for part in PARTS if (n := _count(checkpoint, part))},
        "stored": sorted(
            {str(t.dtype).removeprefix("torch.") for t in checkpoint.tensors.values()}
        ),
        **{part: model.pop(part) for part in PARTS if model.get(part)},
        **{key: value for key, value in model.items() if value is not None},
        "training": info,
    }


def _count(checkpoint: Checkpoint, part: str) -> int:
    own = (t for name, t in checkpoint.tensors.items() if name.startswith(f"{part}."))
    return sum(math.prod(tensor.shape) for tensor in own)


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """Lines `key: value`, with indentation for mappings and without control characters."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{_plain(key)}:", *_lines(value, f"{indent}  ")]
        else:
            text = f"{value:,}" if type(value) is int else _plain(value)
            lines.append(f"{indent}{_plain(key)}: {text}")
    return lines


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    return printable(text)
