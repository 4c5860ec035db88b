"""DDRM: restoration with an unconditional diffusion prior and a known linear degradation.

`restorer` holds the class `DDRM`, `sampling` the update of the paper (tensors and an operator only,
no files), `mean` the mean of the posterior, `priors` loads the networks, and `problems` lists the
degradations.
Import `DDRM`, `load_prior` and `find_prior` from `refusion.restorers`, and the rest from these
modules. A new degradation is an operator in `refusion.operators` and a function in `problems`.
"""
