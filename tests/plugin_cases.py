"""The plug-ins of docs/extending.md as files, shared by the tests of plug-ins."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tiny_models
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from refusion.config import plugins
from refusion.data import DATASETS
from refusion.images.io import write_image
from refusion.metrics import METRICS
from refusion.nets import NETS
from refusion.operators import OPERATORS
from refusion.restorers import RESTORERS
from refusion.sde import OBJECTIVES, PREDICTIONS, SAMPLERS, SDES, THETA_SCHEDULES
from refusion.sde.grids import GRIDS
from refusion.synthesis.degradations import DEGRADATIONS
from refusion.training.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {
    name: text for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", PAGE, re.S)
}
SCIENCE = [SAMPLERS, SDES, THETA_SCHEDULES, OBJECTIVES, PREDICTIONS, GRIDS]
TABLES = [NETS, DATASETS, DEGRADATIONS, METRICS, RESTORERS, OPERATORS, STAGES, *SCIENCE]
MODULES = ("my_nets", "my_parts", "my_stage", "stranger")
SHORT = {"steps": 2, "optimizer": {"type": "Lion", "lr": 5e-4}, "validate_every": 2}


def page_folder(tmp_path, monkeypatch):
    """A folder with the files of the page and two photos; tables and modules are put back."""
    kept = [dict(table) for table in TABLES]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        image = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(seed))
        write_image(tmp_path / "photos" / f"{seed}.png", image, None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    importlib.invalidate_caches()
    yield tmp_path
    for table, before in zip(TABLES, kept, strict=True):
        table.clear()
        table.update(before)
    for name in MODULES:
        sys.modules.pop(name, None)


def command(*arguments):
    """Run `refusion` in a process of its own that finds modules in the current folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", str(ROOT)])}
    code = "import sys; from refusion.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )


def own_config(**changes):
    """The page's experiment for two steps, with the modules imported."""
    plain = yaml.safe_load(FILES["my_run.yml"]) | {"train": SHORT}
    return plain | {"plugins": ["my_nets", "my_parts", "my_stage"]} | changes


def with_plugins(folder, names, kind="pixel"):
    """A weights file of a built-in network whose stored config names plug-ins."""
    path = folder / "foreign.safetensors"
    tiny_models.save(kind, path)
    return renamed(path, plugins=names)


def renamed(path, **changes):
    """Change a weights file's stored config without checks, as anybody can."""
    with safe_open(path, "pt") as file:
        head = json.loads(file.metadata()["refusion"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    head["config"] |= changes
    save_file(tensors, path, metadata={"refusion": json.dumps(head)})
    return path
