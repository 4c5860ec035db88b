"""Degraded photos from clean ones: `degradations`, and the `scenes` and camera they need.

Every draw takes a generator, every field is a function of photo coordinates, so a crop shows its
part of the whole photo. Imported by `data`. A new degradation is one file in `degradations` and one
line in its table.
"""
