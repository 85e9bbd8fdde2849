"""A trial, a training run and a reproduction of a cell, from settings to files. Without Ray."""
