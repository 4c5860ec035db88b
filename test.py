"""Evaluate a model or write a challenge submission: `python test.py --help`."""

import sys

from refusion.cli import test_main

if __name__ == "__main__":
    sys.exit(test_main())
