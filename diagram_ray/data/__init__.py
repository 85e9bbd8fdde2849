"""Mammograms: readers, pixels, prepared datasets, splits and the phantom."""
