"""Which option a user may have meant by an unknown one."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable

_PHOTOS = ("--input", "photos", "files")
_WEIGHTS = ("--weights", "--task", "model")
# What other programs call our options. A name without hyphens is that of an argument.
_ELSEWHERE = {
    ("o", "out", "outdir", "out-dir", "output-dir", "outfile", "dst", "dest"): ("--output",),
    ("i", "in", "input", "image", "images", "photo", "photos", "file", "src", "source"): _PHOTOS,
    ("m", "model", "w", "weight", "checkpoint", "ckpt", "model-path", "pretrained"): _WEIGHTS,
    ("t", "task"): ("--task", "model"),
    ("c", "config", "cfg", "options", "yaml"): ("--opt",),
    ("gpu", "gpus", "cuda", "cpu"): ("--device",),
    ("f", "force", "y", "yes"): ("--overwrite",),
    ("q", "silent"): ("--quiet",),
    ("fp16", "bf16", "half", "dtype"): ("--precision",),
}
_MEANT = {word: meant for words, meant in _ELSEWHERE.items() for word in words}
_SHORTEST = 3  # characters of a word that is compared with the names of options


def option_hint(name: str, actions: Iterable[argparse.Action]) -> str:
    """End of an error message about an unknown option: the option that was meant, or nothing.

    Args:
        name: the unknown option or argument.
        actions: options and arguments of the parser.
    """
    actions = [action for action in actions if action.help != argparse.SUPPRESS]
    known = {text: text.lstrip("-") for action in actions for text in action.option_strings}
    word = name.lstrip("-").replace("_", "-").lower()
    elsewhere = _MEANT.get(word, ()) if name.startswith("-") else ()
    meant = [one for one in elsewhere if one in known]
    if elsewhere and not meant:
        places = [action for action in actions if action.dest in elsewhere]
        return f"; write it without an option, as {places[0].metavar}" if places else ""
    if not meant and len(word) >= _SHORTEST:
        near = difflib.get_close_matches(word, known.values(), n=1)
        meant = [text for text in known if known[text] in near and text.startswith("--")]
    return f"; did you mean {' or '.join(map(repr, meant[:2]))}?" if meant else ""
