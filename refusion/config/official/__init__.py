"""The authors' option files (YAML), translated into the plain values of our own option files.

`options.is_official` and `options.official_run` are the entries. Nothing outside `refusion.config`
and `refusion.official` needs to know that there are two dialects.
"""
