"""Entries for the NTIRE challenges: one zip, checked by the same rules before and after writing."""
