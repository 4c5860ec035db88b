"""OSEDiff: restoration with one network call of a Stable Diffusion with LoRA adapters.

`restorer` holds the class `OSEDiff` and `load_osediff`; `weights` reads, writes and attaches the
adapters. `refusion.training.stages.osediff` trains them.
Import `OSEDiff` and `load_osediff` from `refusion.restorers`, and the rest from these modules.
Code that other methods on Stable Diffusion need, too, belongs in `refusion.stable_diffusion`.
"""
