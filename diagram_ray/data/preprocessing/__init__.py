"""From a `Mammogram` to the standardised image and its patches."""
