"""The steps after a search: controls, repeats, nested cross-validation, baselines."""
