"""Metrics, out-of-fold predictions, estimates with intervals, figures."""
