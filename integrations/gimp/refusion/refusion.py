#!/usr/bin/env python3
"""Plug-in for GIMP 2.10 (Linux) and GIMP 3: Filters > Enhance > Restore with refusion."""

import sys


def main() -> None:
    """Start the part for the version of GIMP: GIMP 3 gives one argument more, its protocol."""
    if len(sys.argv) == 6:
        import gimp2

        gimp2.main(sys.argv)
    else:
        import gimp3

        gimp3.main(sys.argv)


if __name__ == "__main__":
    main()
