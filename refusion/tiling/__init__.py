"""Networks on photos of any size: exact tiles, blended tiles, changes carried over from a copy.

`exact` serves latent U-Nets, `blending` all other networks, `guided` what runs on a reduced copy;
`memory` chooses the size of tiles. Imported by `restorers`; knows networks but no checkpoint.
"""
