"""Proof that the promises hold: each tried many times, on real files, with real processes."""
