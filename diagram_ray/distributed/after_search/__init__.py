"""What follows a search: controls, repeats, nested cross-validation, baselines."""
