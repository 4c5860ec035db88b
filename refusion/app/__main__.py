"""Entry point of `python -m refusion.app`."""

import sys

from refusion.app.command import main

if __name__ == "__main__":
    sys.exit(main())
