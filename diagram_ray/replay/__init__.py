"""What a study would have cost with another search, or would cost on another cluster."""
