"""Phantoms in the forms of DDSM and CBIS-DDSM, which no command writes: what the readers are tested with."""
