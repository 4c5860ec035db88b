"""Translation of the option files of the official code to the option files of this package.

The official code is that of Refusion and IR-SDE. Import `is_official` and `official_run` from
`options`, and `official_model` from `model`. Only `refusion.config` and `refusion.official` may
import this package; all other code uses the configs of this package. To support another official
key, add it to `model` (network, SDE), `datasets` or `options` (training).
"""
