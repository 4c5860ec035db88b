"""Synthesis of degraded photos from clean ones: haze, shadow, rain, blur, noise and others.

`degradations` contains the degradations, `scenes` the depth maps, fields and surfaces that they
use, `camera` exposure, noise and JPEG, `lens_blur` bokeh rendering, and `tone` tone curves. Every
random function takes a generator, and fields are functions of photo coordinates, so a crop gets the
same result as that part of the whole photo. `data` and higher packages may import from here; start
with `degradations.build_degradation`. To add a degradation, add a module to `degradations` and an
entry to its table `DEGRADATIONS`.
"""
