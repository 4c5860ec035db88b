"""Processes by what they have in common."""

from refusion.sde import SDES

MEAN_REVERTING = [kind for kind in SDES if kind != "VPSDE"]  # which has no lam and knows noise only
