"""Import of files that the authors of IR-SDE and Refusion published: weights and option files.

`weights` reads .pth files without running code, `detect` finds the network that a state dict
belongs to, `importing` makes a checkpoint, `evaluate` translates an option file for testing, and
`adm` imports priors of guided-diffusion. The package imports `checkpoint`, `config` and `nets`;
`stable_diffusion`, `restorers`, `training` and `cli` may import it. Another family of published
weights gets a file of its own here; the translation of option files is in `config/official`.
Source: https://github.com/Algolzw/image-restoration-sde
"""
