"""One command for the minutes in which a GPU is at hand: `python -m benchmarks.gpu`.

`plan` divides the time, `parts` runs programs with time limits, `inference`, `networks` and `data`
measure and print rows, `report` writes what comes back. See docs/scaling.md.
"""
