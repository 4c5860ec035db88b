"""Number of examples, time limit and memory limit of the fuzz tests."""

import contextlib
import faulthandler
import os
import resource
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from refusion.failures import describe_failure

# REFUSION_FUZZ=N multiplies the number of files and makes them different in every run.
SCALE = int(os.environ.get("REFUSION_FUZZ", "0"))
EXAMPLES = 1500 * max(SCALE, 1)
SECONDS = 20  # per file, on the slowest machine
MEMORY = 2**30  # bytes per file

FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=not SCALE,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


@contextlib.contextmanager
def limits():
    """Limit the time and the memory of a block."""
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        faulthandler.cancel_dump_traceback_later()


def check_line(error, path):
    """Check that the user reads one short line that names the file and is not about memory."""
    failure = describe_failure(error)
    assert not failure.is_internal
    assert str(path) in failure.text and len(failure.text) < 600, failure.text
    assert failure.text.isprintable(), failure.text
    assert "memory" not in failure.text, failure.text
