"""A dataset that trains in a moment, Algorithm 1 by the paper, and training in several processes."""
