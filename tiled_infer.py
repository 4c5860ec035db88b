"""Restore photos of any size: `python tiled_infer.py --task dehaze --input photo.jpg`."""

import sys

from refusion.cli import restore_main

if __name__ == "__main__":
    sys.exit(restore_main())
