"""Refusion and IR-SDE: restoration with a mean-reverting diffusion, on pixels or in a latent.

`restorer` holds the class `Refusion`, `conditions` and `sampling_plan` check the arguments of
`restore`, `latent` and `pixels` prepare the map, and `reverse_process` runs the diffusion on it.
Import `Refusion` from `refusion.restorers`, and the rest from these modules. Processes, samplers
and predictions belong in `refusion.sde`, and networks in `refusion.nets`.
"""
