"""A browser page to restore photos, served by this machine: `python -m refusion.app`.

`command` has the options and serves the page, `page` defines its content with Gradio, `restoring`
restores one photo, and `models` selects the offered models. The package may import all others;
nothing imports it. A new control belongs in `page`, its option in `RestoreOptions` of `batch`.
Needs the extra `app`: `pip install '.[app]'` in a checkout.
"""
