"""Evaluation: restore sets of photos, measure the results, and report the scores.

`scoring.evaluate` is the public entry; `run.EvaluationRun` is a complete run of `refusion test`,
described by `options.RunOptions` and `outputs.Outputs`. `sets` and `options_file` find the photos;
`page`, `score_files`, `result_files` and `entry` write files. May be imported by `cli` and scripts.
A new metric goes into `refusion.metrics`; a new kind of report is a module here and a field of
`Outputs`.
"""
