"""Ray Tune: the search loop, its callbacks and the trainable."""
