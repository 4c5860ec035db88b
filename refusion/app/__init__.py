"""A browser page to restore photos, served by this machine: `python -m refusion.app`.

`command` has the options, `page` defines the content with Gradio, `restoring` restores one photo,
and `models` selects the offered models. `server` serves the page behind `guard`, which refuses
requests of other web pages (`origins`) and uploads that do not fit (`storage`). `values` checks
what a click sends, and `slot` runs one restoration at a time and stops it. The package may import
all others; nothing imports it. A new control belongs in `page`, the check of its value in `values`,
its option in `RestoreOptions` of `batch`.
Needs the extra `app`: `pip install '.[app]'` in a checkout.
"""
