"""Translation of the authors' option files for testing: model, weights and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from refusion.checkpoint import Checkpoint
from refusion.config import ModelConfig, find_table, model_config_from_dict
from refusion.config.official.datasets import evaluation_set
from refusion.config.official.model import official_model, upscale_of
from refusion.config.official.section import Section
from refusion.config.overrides import apply_override
from refusion.config.parser import FromTable, NamedComponent, Parser
from refusion.official.importing import OfficialFiles, import_official


@dataclass(frozen=True)
class OfficialTest:
    """Content of one option file for testing.

    Attributes:
        model: config of the model.
        sets: data sets of whole photos; some have no ground truth.
        files: weights that the file names, and the content of the file; a weight is None if the
            file has null there.
    """

    model: ModelConfig
    sets: tuple[NamedComponent, ...]
    files: OfficialFiles

    def read(self) -> Checkpoint:
        """Read the weights and check that the option file describes them.

        Raises:
            ConfigError: the file names no weights.
            CheckpointError: see `import_official`.
        """
        if self.files.network is None and self.files.latent_unet is None:
            Section(self.files.source).section("path").need("pretrain_model_G")
        return import_official(self.files)


@dataclass(frozen=True)
class _Sets:
    validation: tuple[Annotated[NamedComponent, FromTable("datasets", supplied=("seed",))], ...]


def official_test(
    raw: Mapping[str, Any], source: str, overrides: Iterable[str] = ()
) -> OfficialTest:
    """Translate an option file of the authors for testing.

    Args:
        raw: content of the file.
        source: path of the file, for error messages; the task is read from its folder.
        overrides: 'data.validation.<number>.<key>=value', with the keys of this project's files.

    Raises:
        ConfigError: a key is missing, or a value cannot be used here.
    """
    file = Section(source, raw)
    model = official_model(raw, source)
    if "upscale" in model:  # the authors' weights use the interpolation of the release
        factor = model["upscale"]["factor"]
        model["upscale"] = upscale_of(model["network"]["type"], factor, released=True)
    names = [name for name in file.section("datasets").values if name != "train"]
    sets = [evaluation_set(file, name, model["task"]) for name in names]
    plain = {"data": {"validation": sets}}
    for text in overrides:
        apply_override(plain, text)
    return OfficialTest(
        model=model_config_from_dict(model, source),
        sets=Parser(source, find_table).parse(_Sets, plain["data"]).validation,
        files=_files(file, model),
    )


def _files(file: Section, model: Mapping[str, Any]) -> OfficialFiles:
    """Weights in the section `path`; a single latent U-Net is also named pretrain_model_G."""
    path = file.section("path")
    network, latent = (
        None if path.get(key) is None else Path(path.get(key))
        for key in ("pretrain_model_G", "pretrain_model_L")
    )
    if "network" not in model:
        network, latent = None, network
    return OfficialFiles(network, latent, file.values, file.source)
