"""Batches of photo files: planning of input and output files, restoration, progress and log.

`plan.plan_jobs` decides which files are read and written, and `jobs.run_jobs` restores them one
after the other. The package imports `restorers`, `images`, `optics`, `tiling` and packages below;
`cli`, `app` and scripts may import it. Code for the pixels of one photo belongs in `restorers` or
`tiling`, printed output in `cli`, and a new kind of file per photo (as `prompts`) in a file here.
"""
