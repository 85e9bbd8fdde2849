"""Networks that start from pretrained weights, and frozen features."""
