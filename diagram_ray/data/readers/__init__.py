"""Readers of raw data sets: which images there are and what the source says of them."""
