"""Figures of what was measured: curves, heat maps and their style."""
