"""The option `--method`: restoration methods besides Refusion, each with its own options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from refusion.cli.options import bokeh, ddrm, diffbir, osediff, stable_diffusion
from refusion.cli.options.values import option_name
from refusion.errors import ConfigError
from refusion.weights import ABOUT


class Method(NamedTuple):
    """A method.

    Attributes:
        own: keys of the options that only some methods use.
        tasks: tasks that it restores; None for those with a trained model.
        restores: what it restores, for the help.
        named: how `--task` names that.
        how: how it restores.
    """

    own: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    restores: str = ""
    named: str = ""
    how: str = ""


_OF_SD = (stable_diffusion.TASK,)
DEFAULT, RENDER = "refusion", "render"
METHODS = {
    DEFAULT: Method(),
    RENDER: Method(
        tasks=(bokeh.TASK,),
        restores="more background blur",
        named=bokeh.TASK,
        how="without a network (default if the lens to imitate blurs at least as much as that of "
        "the photo, without --weights, --steps and --sampler; else refusion, the network)",
    ),
    "ddrm": Method(
        ddrm.OWN,
        ddrm.TASKS,
        "known degradations",
        "sr4 (sr2, sr8, sr4mean), inpaint, colorize, deblur, denoise or cs",
        "with a prior that was not trained for them (--weights: a denoising model, a checkpoint of "
        "stage prior, or the folder of a diffusers DDPM; default: the shipped denoising model)",
    ),
    "diffbir": Method(
        diffbir.OWN,
        _OF_SD,
        "unknown degradations",
        stable_diffusion.TASK,
        "in many steps with a local Stable Diffusion (--sd and --control)",
    ),
    "osediff": Method(
        osediff.OWN,
        _OF_SD,
        "unknown degradations",
        stable_diffusion.TASK,
        "in one step with a local Stable Diffusion (--sd and --lora)",
    ),
}


def methods_of(task: str | None) -> dict[str, Method]:
    """The methods that restore a task.

    Args:
        task: a shipped task; None for all methods.
    """
    return {
        name: method
        for name, method in METHODS.items()
        if None in (task, method.tasks) or task in method.tasks
    }


def add_method_option(add: Callable[..., argparse.Action], task: str | None = None) -> None:
    """Add `--method`.

    Args:
        add: method `add_argument` of a parser or of a group.
        task: task that the command names; None for all.
    """
    methods = methods_of(task)
    texts = []
    for name, method in methods.items():
        if name != DEFAULT:
            restores = f"{method.restores}, --task {method.named}" if task is None else task
            texts.append(f"{name}: {restores}, {method.how}")
    add("--method", choices=methods, help="; ".join(texts))


def default_method(options: argparse.Namespace) -> str:
    """The method without `--method`.

    Args:
        options: parsed options.

    Raises:
        ConfigError: the name of a lens is wrong.
    """
    return RENDER if bokeh.is_rendered(options) else DEFAULT


def hide_other_methods(parser: argparse.ArgumentParser, task: str | None) -> None:
    """Hide the options that no method of a task uses, from the help and from suggestions.

    They are still parsed, so that a message can say whose options they are.

    Args:
        parser: parser of the command.
        task: task that the command names; None hides nothing.
    """
    methods = methods_of(task)
    used = {key for method in methods.values() for key in method.own}
    unused = {key for method in METHODS.values() for key in method.own} - used
    if len(methods) == 1:
        unused.add("method")
    for action in parser._actions:
        if action.dest in unused:
            action.help = argparse.SUPPRESS


def refuse_other_options(options: argparse.Namespace) -> None:
    """Check that no option of another method than the chosen one is given.

    Raises:
        ConfigError: an option of another method is given; the message names it.
    """
    for key in dict.fromkeys(key for method in METHODS.values() for key in method.own):
        users = [name for name, method in METHODS.items() if key in method.own]
        if vars(options)[key] is None or options.method in users:
            continue
        text = f"{option_name(key)}: only --method {' or '.join(users)} uses it"
        if options.task in ABOUT and methods_of(options.task).keys().isdisjoint(users):
            text += f", which does not restore '{options.task}'; leave it out"
        raise ConfigError(text)
