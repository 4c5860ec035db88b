"""The public names are frozen: adding or removing one is a decision, made here and in CHANGELOG."""

import re
import subprocess
import sys

import pytest

import refusion

PUBLIC = [
    "ConditionalNAFNet",
    "ConditionalUNet",
    "DenoisingSDE",
    "IRSDE",
    "LatentUNet",
    "RefusionError",
    "__version__",
    "evaluate",
    "load_config",
    "load_restorer",
    "metrics",
    "read_image",
    "write_image",
]


def test_public_names_are_frozen():
    assert sorted(refusion.__all__) == PUBLIC
    assert dir(refusion) == PUBLIC


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if name not in ("__version__", "metrics")]
)
def test_every_public_name_resolves_to_the_thing_of_that_name(name):
    thing = getattr(refusion, name)
    assert callable(thing)
    assert thing.__name__ == name
    assert thing.__doc__


def test_metrics_is_the_module_and_says_what_it_is():
    assert refusion.metrics.__name__ == "refusion.metrics"
    assert refusion.metrics.measure.__doc__


def test_unknown_name_is_an_attribute_error():
    assert not hasattr(refusion, "IRSED")
    with pytest.raises(AttributeError, match=r"'refusion' has no attribute 'IRSED'"):
        _ = refusion.IRSED


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+", refusion.__version__)


@pytest.mark.parametrize("module", ["refusion", "refusion.cli", "refusion.app.command"])
def test_import_does_not_wait_for_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
