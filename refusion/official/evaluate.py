"""Official option files for testing: a model, its weights and the photos to measure it on."""

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
from refusion.config.parser import FromTable, NamedComponent, Parser, apply_override
from refusion.official.importing import OfficialFiles, import_official


@dataclass(frozen=True)
class OfficialTest:
    """One option file for testing.

    Attributes:
        model: what the file describes.
        sets: datasets of whole photos, not all with ground truth.
        files: weights it names, and its content; a weight is None where the file says null.
    """

    model: ModelConfig
    sets: tuple[NamedComponent, ...]
    files: OfficialFiles

    def read(self) -> Checkpoint:
        """Read the weights and check that they are those the file describes.

        Raises:
            ConfigError: no weights are named.
            CheckpointError: as `import_official`.
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
    """Translate an official option file for testing.

    Args:
        raw: the file's content.
        source: the file, for errors; its folder also tells the task.
        overrides: 'data.validation.<number>.<key>=value', in the words of our own files.

    Raises:
        ConfigError: a missing key, or a value of no use here.
    """
    file = Section(source, raw)
    model = official_model(raw, source)
    if "upscale" in model:  # weights to test are the authors' own
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
    """The weights below `path`; a latent U-Net alone is called G too."""
    path = file.section("path")
    own, latent = (
        None if path.get(key) is None else Path(path.get(key))
        for key in ("pretrain_model_G", "pretrain_model_L")
    )
    if "network" not in model:
        own, latent = None, own
    return OfficialFiles(own, latent, file.values, file.source)
