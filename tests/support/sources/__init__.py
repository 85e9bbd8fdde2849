"""Single source files and small trees of them."""
