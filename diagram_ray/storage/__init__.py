"""How files are named, opened, locked and written, on disks and in object stores."""
