"""One experiment as a typed, frozen value: what a YAML file in `options/` may say.

`RunConfig` is all of a training run; `ModelConfig` is the part inference needs, stored inside each
checkpoint. Sections with a `type` are checked against the constructor of the class they name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from refusion.config_regression import check_no_process, is_regressor
from refusion.config_stages import check_present, check_process, check_stage
from refusion.errors import ConfigError, suggest
from refusion.schema import Component, FromTable, Parser, Table, apply_override, to_plain
from refusion.sections import (
    DataConfig,
    DiffBIRConfig,
    DistillationConfig,
    LatentCheckpoint,
    OSEDiffConfig,
    SamplingConfig,
    TrainConfig,
    UpscaleConfig,
)

_TABLES = {
    "nets": ("refusion.nets", "NETS"),
    "sdes": ("refusion.sde", "SDES"),
    "predictions": ("refusion.sde", "PREDICTIONS"),
    "objectives": ("refusion.sde", "OBJECTIVES"),
    "samplers": ("refusion.sde", "SAMPLERS"),
    "datasets": ("refusion.data", "DATASETS"),
    "degradations": ("refusion.data.degradations", "DEGRADATIONS"),
}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Net = Annotated[Component, FromTable("nets")]
# YAML speaks of the noise level as the field does, in 8-bit levels; the code's lam is in [0, 1].
Sde = Annotated[Component, FromTable("sdes", renamed=(("lam", "max_sigma"),))]
Prediction = Annotated[str, FromTable("predictions")]


@dataclass(frozen=True)
class ModelConfig:
    """What inference must know of a model, stored with its weights.

    A latent U-Net alone (stage `latent_unet`) has no network and nothing that depends on one, a
    regression (stage `regression`) a network alone.
    """

    task: str  # 'dehaze', 'derain', ...
    latent_unet: Net | None = None  # None: the process runs on pixels
    network: Net | None = None
    sde: Sde | None = None  # max_sigma in 8-bit levels
    prediction: Prediction | None = None  # what the network's output means
    sampling: SamplingConfig | None = None
    upscale: UpscaleConfig | None = None  # None: output and input have the same size

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        _check_word("task", self.task)
        if self.latent_unet is None and self.network is None:
            raise ConfigError("network: a model needs a network, a latent_unet or both")
        if is_regressor(self.network):
            check_no_process(self.network, vars(self))
        elif self.network is not None:
            for key in ("sde", "prediction", "sampling"):
                check_present(key, getattr(self, key), "a model with a network")
            check_process(self.sde, self.sampling)
            _check_channels(self.latent_unet, self.network)
            _check_guide(self.guide, self.network, self.sampling)

    @property
    def guide(self) -> int:
        """Channels of the map that the latent U-Net is told beside the photo, 0 for none."""
        seen = self.latent_unet.settings if self.latent_unet else {}
        return seen.get("in_ch", 3) - seen.get("out_ch", 3)


@dataclass(frozen=True)
class RunConfig:
    """One training run."""

    name: str  # run folder runs/<name>
    task: str  # what the model will be called: 'dehaze', ...
    stage: Literal[
        "latent_unet", "diffusion", "joint", "one_step", "prior", "regression", "diffbir", "osediff"
    ]
    data: DataConfig
    train: TrainConfig
    latent_unet: Net | LatentCheckpoint | None = None  # None in stage diffusion: pixels
    network: Net | None = None  # this and all below: not in stage latent_unet, else needed
    sde: Sde | None = None  # max_sigma in 8-bit levels: 50 means 50/255
    prediction: Prediction | None = None
    objective: Annotated[Component, FromTable("objectives")] | None = None
    sampling: SamplingConfig | None = None  # used in validation and stored as the default
    upscale: UpscaleConfig | None = None  # super-resolution; not in stage latent_unet
    init: str | None = None  # checkpoint to start the weights from, such as a trained model
    distillation: DistillationConfig | None = None  # stage one_step only, and needed there
    diffbir: DiffBIRConfig | None = None  # stage diffbir only, and needed there
    osediff: OSEDiffConfig | None = None  # stage osediff only, and needed there

    def __post_init__(self) -> None:
        """Check what one section demands of another."""
        _check_word("name", self.name)
        _check_word("task", self.task)
        names = [dataset.name for dataset in self.data.validation]
        if len(set(names)) < len(names):
            raise ConfigError(f"data.validation: names must differ, got {', '.join(names)}")
        if self.data.batch_size % self.train.accumulate:
            raise ConfigError(
                f"train.accumulate: {self.train.accumulate} parts of equal size cannot be cut "
                f"from data.batch_size = {self.data.batch_size}"
            )
        check_stage(self)


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

    Args:
        path: YAML file.
        overrides: 'dotted.key=value' texts applied on top, e.g. 'train.optimizer.lr=1e-4' or
            'data.validation.0.lq=photos'; the value is read as YAML.
        tables: component tables by name; None takes the package's own.

    Raises:
        ConfigError: unreadable file or wrong content. Whether the folders it names exist is left
            to `config_paths.check_paths`, since only training needs them.
    """
    raw = read_yaml(path)
    from refusion.official.options import is_official, official_run  # needs the parts of this file

    if is_official(raw):
        raw = official_run(raw, str(path))
    for override in overrides:  # in our own words in any case
        apply_override(raw, override)
    return config_from_dict(raw, str(path), tables)


def config_from_dict(
    raw: object, source: str = "config", tables: Callable[[str], Table] | None = None
) -> RunConfig:
    """Check plain values, as YAML gives them, into a `RunConfig`; `source` opens each error.

    Raises:
        ConfigError: names the source, the dotted key, what was expected and what came.
    """
    return Parser(source, tables or find_table).parse(RunConfig, raw)


def model_config_from_dict(
    raw: object, source: str = "model", tables: Callable[[str], Table] | None = None
) -> ModelConfig:
    """Check the plain values stored in a checkpoint into a `ModelConfig`.

    Raises:
        ConfigError: as `config_from_dict`.
    """
    return Parser(source, tables or find_table).parse(ModelConfig, raw)


def config_to_dict(config: RunConfig | ModelConfig) -> dict[str, Any]:
    """Give the plain values (dicts, lists, numbers, texts) that read back as the same config."""
    return to_plain(config)


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
    )


def find_table(name: str) -> Table:
    """Import the component table `name`; late, so that reading this module costs no torch."""
    module, attribute = _TABLES[name]
    return getattr(importlib.import_module(module), attribute)


def _check_word(key: str, value: str) -> None:
    if not _WORD.fullmatch(value):  # it becomes a file name
        raise ConfigError(f"{key}: {value!r} must be letters, digits, '_', '-' or '.', no folder")


def _check_channels(latent_unet: Component | None, network: Component) -> None:
    latent = latent_unet.settings.get("embed_dim") if latent_unet else None
    channels = network.settings.get("img_channel", network.settings.get("in_nc"))
    if None not in (latent, channels) and latent != channels:
        raise ConfigError(
            f"network: takes {channels} channels but the latent has {latent} "
            "(latent_unet.embed_dim)"
        )


def _check_guide(channels: int, network: Component, sampling: SamplingConfig) -> None:
    wanted = network.settings.get("guide", 0)
    if wanted not in (0, channels):
        raise ConfigError(
            f"network.guide: expected 0, or the {channels} channels of the latent U-Net's guide "
            f"(in_ch - out_ch), got {wanted}"
        )
    if channels and sampling.side is not None:
        raise ConfigError(
            "sampling.side: a guide tells of the photo's own pixels, not of a smaller copy's; "
            "set null"
        )
