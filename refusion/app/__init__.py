"""A browser page to restore photos, served by this machine: `python -m refusion.app`.

`command` has the options. `page` places the components of Gradio: `fields` has the fields, `words`
the titles of the tasks, `look` the style and the script. `events` connects the components to the
functions of `actions`. `preview` restores a small copy, `restoring` one file, `series` several;
`maps` finds depth maps, `haze` and `tabs` keep what a tab needs again. `models` selects the models.
`server` serves the page behind `guard`, which refuses requests of other web pages (`origins`) and
uploads that do not fit (`storage`). `values` checks what a click sends, and `slot` runs one network
at a time and stops it. The package may import all others; nothing imports it. A new field belongs
in `fields`, its check in `values`, its option in `RestoreOptions` of `batch`.
Needs the extra `app`: `pip install '.[app]'` in a checkout.
"""
