"""`python -m refusion COMMAND`: the same as `refusion COMMAND`."""

import sys

from refusion.cli import main

if __name__ == "__main__":
    sys.exit(main())
