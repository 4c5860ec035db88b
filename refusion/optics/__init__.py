"""Lenses and depth: lens names as numbers, discs out of focus, disparity maps from files.

Imports `images` only; used by `synthesis` and `data` to make bokeh pairs, and by `batch` and `cli`
to tell a bokeh model what it must know.
"""
