"""Parts of synthetic scenes: depth maps, smooth random fields, and procedural surfaces.

`frame` maps a crop to its photo, `fields` has smooth random fields, `depth` depth maps for photos,
and `surfaces` procedural photos, made from `textures`, `materials` and `marks`. `degradations` and
`data` import from here. Add a depth model to `depth.DEPTHS`, a material to `materials.MATERIALS`,
and a mark to `marks.MARKS`.
"""
