"""Photo files in and out, and images as arrays: the only place that knows bytes and file formats.

`io.read_image` and `io.write_image` are the public entries. Imports nothing above `errors` and
`files`, so everything else may import it. A new file format goes into a decoder and an encoder here
and into the list of suffixes in `io`.
"""
