"""Entry point of `python -m refusion.app`."""

import sys

from refusion.cli.common import errors_to_exit_codes


@errors_to_exit_codes
def main() -> int:
    """Import and run the command; an error of the import is one line, too."""
    from refusion.app.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
