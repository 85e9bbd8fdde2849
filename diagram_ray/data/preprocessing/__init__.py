"""The step from a `Mammogram` to the standardised image and its patches."""
