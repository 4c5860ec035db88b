"""Running networks on photos of any size: exact tiles, blended tiles, guided upsampling.

`exact` runs a latent U-Net and `blending` any other network tile by tile. `guided` transfers the
result on a reduced copy to the full photo. `memory` chooses the size of the tiles. This package
may be imported from `data`, `stable_diffusion`, `restorers` and above; import from its modules. It
imports networks, devices and images, but no checkpoints. A new way to run a network on a large
photo is a new module here.
"""
