"""OSEDiff: restoring by one call of a Stable Diffusion with adapters.

`restorer` holds the class, `weights` the file of adapters.
"""
