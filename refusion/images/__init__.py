"""Reading and writing of photo files, and conversion between photos, arrays and tensors.

Only this package parses file formats. Import `read_image` and `write_image` from `images.io`,
`Photo` from `images.photo`, array conversion from `images.arrays`, and tensor checks from
`images.check`. The package imports `errors`, `files` and `config` only; all packages above may
import it. To add a file format, add a decoder and an encoder module here, and the suffix and the
first bytes of the format to `io`.
"""
