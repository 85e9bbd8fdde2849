"""Ray Train: several workers that train one trial."""
