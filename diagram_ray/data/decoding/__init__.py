"""One file, decoded to one `Mammogram`."""
