"""Replays and forecasts: the cost of a study with another search, or on another cluster."""
