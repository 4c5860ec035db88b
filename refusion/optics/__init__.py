"""Lens and depth models for bokeh: lens numbers, blur radii, and disparity maps.

`lens` converts lens names to numbers, `defocus` computes blur radii and the network input that
encodes them, and `disparity` reads disparity maps, also those inside photos. The package imports
`images` and lower packages. `synthesis` and `data` use it to make training pairs, `batch` and `cli`
to prepare the inputs of a bokeh model. Add a lens or blur model here; rendering of blur is in
`synthesis.lens_blur`.
"""
