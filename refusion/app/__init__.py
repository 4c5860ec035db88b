"""A page in the browser to restore photos on, served by this machine for itself.

`python -m refusion.app`; needs Gradio, `pip install 'refusion[app]'`.
"""
