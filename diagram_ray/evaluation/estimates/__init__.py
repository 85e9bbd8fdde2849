"""Estimates that are not flattered by having searched: corrected, repeated, nested, above baselines, by unit."""
