"""Packs: found through entry points, joined into one table; core's own."""
