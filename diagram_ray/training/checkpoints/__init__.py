"""Checkpoints and model folders: what they hold, how they are written, and how they are read without unpickling."""
