"""All that touches Ray; no other package does."""
