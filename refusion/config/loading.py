"""From files and plain values to configs, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from refusion.config.model import ModelConfig
from refusion.config.official.options import is_official, official_run
from refusion.config.overrides import apply_override
from refusion.config.parser import Component, Parser, Table, to_plain
from refusion.config.plugins import import_plugins
from refusion.config.run import RunConfig
from refusion.config.sections import LatentCheckpoint
from refusion.config.tables import find_table
from refusion.errors import ConfigError, suggest


def read_yaml(path: str | Path) -> object:
    """Read the plain values of a YAML file.

    Raises:
        ConfigError: no such file, unreadable or no YAML.
    """
    path = Path(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.yml")]
        hint = suggest(path.name, others) if others else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    # ValueError: wrong text encoding, or a date that is none.
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error


def load_config(
    path: str | Path, overrides: Iterable[str] = (), tables: Callable[[str], Table] | None = None
) -> RunConfig:
    """Read an experiment file, ours or one of the authors' released code.

    Imports the modules under the key `plugins`: read only files that you trust with that.

    Args:
        path: YAML file.
        overrides: 'dotted.key=value' texts applied on top, e.g. 'train.optimizer.lr=1e-4' or
            'data.validation.0.lq=photos'; the value is read as YAML.
        tables: component tables by name; None takes the package's own.

    Raises:
        ConfigError: unreadable file or wrong content. Whether the folders it names exist is left
            to `refusion.training.paths.check_paths`, since only training needs them.
    """
    raw = read_yaml(path)

    if is_official(raw):
        raw = official_run(raw, str(path))
    for override in overrides:  # in our own words in any case
        apply_override(raw, override)
    try:
        import_plugins(_plugins_of(raw))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config_from_dict(raw, str(path), tables)


def config_from_dict(
    raw: object,
    source: str = "config",
    tables: Callable[[str], Table] | None = None,
    *,
    warns: bool = True,
) -> RunConfig:
    """Check plain values, as YAML gives them, into a `RunConfig`.

    Args:
        raw: nested mappings, lists, numbers and texts.
        source: opens each error.
        tables: component tables by name; None takes the package's own.
        warns: whether an old name of a key is logged as a warning.

    Raises:
        ConfigError: names the source, the dotted key, what was expected and what came.
    """
    return Parser(source, tables or find_table, warns).parse(RunConfig, raw)


def model_config_from_dict(
    raw: object, source: str = "model", tables: Callable[[str], Table] | None = None
) -> ModelConfig:
    """Check the plain values stored in a checkpoint into a `ModelConfig`.

    Raises:
        ConfigError: as `config_from_dict`.
    """
    return Parser(source, tables or find_table, warns=False).parse(ModelConfig, raw)


def config_to_dict(config: RunConfig | ModelConfig) -> dict[str, Any]:
    """Give the plain values (dicts, lists, numbers, texts) that read back as the same config."""
    plain = to_plain(config)
    if not config.plugins:  # so that versions without plug-ins can read it
        del plain["plugins"]
    return plain


def model_config(config: RunConfig, latent_unet: Component | None = None) -> ModelConfig:
    """Take from a run what its checkpoint must carry.

    Args:
        config: the run.
        latent_unet: what the file named in `config.latent_unet.checkpoint` holds; required there.

    Raises:
        ConfigError: the run diffuses in a latent and `latent_unet` is None.
    """
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


def _plugins_of(raw: object) -> list[str]:
    """Names under the key `plugins`, which has to be a list."""
    names = raw.get("plugins", []) if isinstance(raw, dict) else []
    if not isinstance(names, list):
        raise ConfigError(f"plugins: expected a list such as [my_package.my_nets], got {names!r}")
    return names
