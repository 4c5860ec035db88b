"""Many files: which photo becomes which file, jobs one after the other, the log.

`jobs.run_jobs` restores what `plan.plan_jobs` has planned. May be imported from `cli`, `app` and
scripts; imports `restorers` and everything below. What belongs to one photo's pixels goes into
`restorers` or `tiling`, what is printed into `cli`.
"""
