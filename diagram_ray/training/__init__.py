"""Losses, Algorithm 1, the loop, cross-validation in lock-step, model folders."""
