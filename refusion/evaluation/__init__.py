"""How good a restorer is: scores of whole photos, and the files that report them.

`scoring.evaluate` is the public entry. `sets` makes the photos, `run` holds a complete run, `page`,
`score_files` and `result_files` write. May be imported by `cli` and scripts. A metric goes into
`refusion.metrics`, a new kind of report into a file of its own here.
"""
