"""DDRM: restoring by an unconditional prior and a known degradation.

`restorer` holds the class, `sampling` the update of the paper, `priors` the networks that fill in,
`problems` the degradations by name.
"""
