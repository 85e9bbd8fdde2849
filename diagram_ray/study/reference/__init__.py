"""The reference of the settings, made from the settings themselves: `make docs`."""
