"""A build step of the wheel: `options/*.yml` go into the package as `refusion/options/*.yml`.

Everything else is in pyproject.toml. A checkout, also an editable one, reads `options` directly.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithOptions(build_py):
    """Build the package, then copy the option files into it."""

    def run(self) -> None:
        """Build; an editable installation needs no copy."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "refusion", "options")
        self.mkpath(str(folder))
        for file in sorted(Path("options").glob("*.yml")):
            self.copy_file(str(file), str(folder / file.name))


setup(cmdclass={"build_py": BuildWithOptions})
