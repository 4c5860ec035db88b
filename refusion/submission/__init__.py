"""Entries for the NTIRE challenges: zip files of restored photos and a readme.

`pack.write_submission` writes an entry, `check.check_submission` checks any zip by the same rules.
May be imported by `evaluation` and `cli`; imports `images`, `files` and `errors`. The rules are in
`tracks`: a new track is an entry of `TRACKS`.
"""
