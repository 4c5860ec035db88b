"""Reading of option files and plain values as configs, and conversion back to plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from refusion.arguments import check_arguments
from refusion.config.model import ModelConfig, check_photo_channels
from refusion.config.official.options import is_official, official_run
from refusion.config.overrides import apply_override, checked_overrides, name_override
from refusion.config.parser import Component, Parser, Table, to_plain
from refusion.config.plugins import import_plugins
from refusion.config.run import RunConfig
from refusion.config.sections import LatentCheckpoint
from refusion.config.tables import find_table
from refusion.config.yaml_text import MAX_BYTES, read_yaml_text
from refusion.errors import ConfigError, one_line, printable, suggest
from refusion.files import as_path, open_regular

_LONGEST_PATH = 200  # characters of a path in a message


def read_yaml(path: str | Path) -> object:
    """Read the plain values of a YAML file, which may come from an unknown source.

    Raises:
        ConfigError: the file does not exist, cannot be read, is not valid YAML, gives a key twice,
            or exceeds a limit of `refusion.config.yaml_text`.
    """
    path = as_path(path, "options: expected a YAML file", ConfigError)
    shown = printable(path, _LONGEST_PATH)
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.yml")]
        hint = suggest(path.name, others) if others else ""
        raise ConfigError(f"{shown}: no such file{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{shown}: cannot be read: {reason}") from None
    return read_yaml_text(content, shown)


def load_config(
    path: str | Path, overrides: Iterable[str] = (), tables: Callable[[str], Table] | None = None
) -> RunConfig:
    """Read an option file of this package or of the official code (`refusion.config.official`).

    The modules under the key `plugins` are imported and can run any code: read only trusted files.

    Args:
        path: YAML file.
        overrides: texts 'dotted.key=value' that replace values of the file, for example
            'train.optimizer.lr=1e-4' or 'data.validation.0.lq=photos'; the value is read as YAML.
        tables: returns a component table by its name; None uses the tables of the package.

    Raises:
        ConfigError: the file cannot be read or its content is invalid. Folders and files that it
            names are checked by `refusion.training.paths.check_paths`, not here. A message about a
            value of `overrides` names the option `--set` of the commands.
    """
    overrides = checked_overrides(overrides)
    raw = read_yaml(path)
    if is_official(raw):
        raw = official_run(raw, str(path))
    for override in overrides:  # always with the keys of this package
        apply_override(raw, override)
    try:
        import_plugins(_plugins_of(raw))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return config_from_dict(raw, str(path), tables)
    except ConfigError as error:
        raise ConfigError(name_override(str(error), str(path), overrides)) from error


def config_from_dict(
    raw: object,
    source: str = "config",
    tables: Callable[[str], Table] | None = None,
    *,
    warns: bool = True,
) -> RunConfig:
    """Convert plain values, as read from YAML, to a checked `RunConfig`.

    Args:
        raw: nested mappings, lists, numbers and texts.
        source: start of each error message, for example the file name.
        tables: returns a component table by its name; None uses the tables of the package.
        warns: whether a warning is logged for an old name of a key.

    Raises:
        ConfigError: a value is invalid; the message names the source, the dotted key, the expected
            and the actual value.
    """
    check_arguments(config_from_dict, locals())
    config = Parser(source, tables or find_table, warns).parse(RunConfig, raw)
    if tables is None:
        _check_parts(config, source)
    return config


def model_config_from_dict(
    raw: object, source: str = "model", tables: Callable[[str], Table] | None = None
) -> ModelConfig:
    """Convert the plain values of a checkpoint to a checked `ModelConfig`.

    Args:
        raw: nested mappings, lists, numbers and texts.
        source: start of each error message, for example the file name.
        tables: returns a component table by its name; None uses the tables of the package.

    Raises:
        ConfigError: as `config_from_dict`.
    """
    check_arguments(model_config_from_dict, locals())
    return Parser(source, tables or find_table, warns=False).parse(ModelConfig, raw)


def config_to_dict(config: RunConfig | ModelConfig) -> dict[str, Any]:
    """Convert a config to plain values (dicts, lists, numbers, texts); inverse of the readers."""
    check_arguments(config_to_dict, locals())
    plain = to_plain(config)
    if not config.plugins:  # so that versions without plug-ins can read it
        del plain["plugins"]
    return plain


def model_config(config: RunConfig, latent_unet: Component | None = None) -> ModelConfig:
    """Build the config that the checkpoints of a run contain.

    Args:
        config: config of the run.
        latent_unet: component stored in the file `config.latent_unet.checkpoint`; required if the
            run names such a file.

    Raises:
        ConfigError: the run names a latent checkpoint and `latent_unet` is None.
    """
    check_arguments(model_config, locals())
    if isinstance(config.latent_unet, LatentCheckpoint) and latent_unet is None:
        raise ConfigError(f"latent_unet: read {config.latent_unet.checkpoint} first")
    own = config.latent_unet if isinstance(config.latent_unet, Component) else None
    return ModelConfig(
        task=config.task,
        latent_unet=latent_unet or own,
        network=config.network,
        sde=config.sde,
        prediction=config.prediction,
        sampling=config.sampling,
        upscale=config.upscale,
        plugins=config.plugins,
    )


def _check_parts(config: RunConfig, source: str) -> None:
    """Check settings that may be wrong together: sizes of networks, a process, degradations.

    Raises:
        ConfigError: names the section.
    """
    from refusion.config.networks import network_shapes  # needs torch, as the tables do

    if config.network is not None and config.latent_unet is None:
        try:
            check_photo_channels(config.network)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
    checks = {"network": network_shapes, "latent_unet": network_shapes, "sde": _check_process}
    for key, check in checks.items():
        part = getattr(config, key)
        try:
            if isinstance(part, Component):
                check(part)
        except ConfigError as error:
            raise ConfigError(f"{source}: {key}: {one_line(error, 180)}") from error
    sections = {"data.train": config.data.train}
    sections |= {f"data.validation.{n}": item for n, item in enumerate(config.data.validation)}
    for key, section in sections.items():
        for name, value in section.settings.items():
            _check_degradations(value, f"{source}: {key}.{name}")


def _check_process(sde: Component) -> None:
    """Build a process, which checks its settings."""
    find_table("sdes")[sde.type](**sde.settings)


def _check_degradations(value: Any, key: str) -> Any:
    """Build the degradations of a value, which check their settings; other values are returned.

    A degradation that reads files is not built here: one with a folder, and those of plug-ins,
    which may. Any function stands for it.
    """
    if isinstance(value, tuple):
        return tuple(_check_degradations(item, f"{key}.{n}") for n, item in enumerate(value))
    table = find_table("degradations")
    if not isinstance(value, Component) or value.type not in table:
        return value
    is_own = table[value.type].__module__.startswith("refusion.")
    if not is_own or value.settings.get("folder") is not None:
        return _check_degradations
    settings = {
        name: _check_degradations(item, f"{key}.{name}") for name, item in value.settings.items()
    }
    try:
        return table[value.type](**settings)
    except ConfigError as error:
        raise ConfigError(f"{key}: {one_line(error, 150)}") from error


def _plugins_of(raw: object) -> list[str]:
    """Names under the key `plugins`, which has to be a list."""
    names = raw.get("plugins", []) if isinstance(raw, dict) else []
    if not isinstance(names, list):
        got = repr(names)[:40]
        raise ConfigError(f"plugins: expected a list such as [my_package.my_nets], got {got}")
    return names
