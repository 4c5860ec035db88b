"""Refusion and IR-SDE: restoring by a mean-reverting diffusion, on pixels or in a latent.

`restorer` holds the class, `sampling_plan` the checked arguments of one reverse process.
"""
