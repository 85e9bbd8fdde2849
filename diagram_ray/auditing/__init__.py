"""Checks of a prepared dataset: can a number that is measured on it be trusted? Pure functions of tables and pixels."""
