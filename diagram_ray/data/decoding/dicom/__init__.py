"""DICOM files, decoded to `Mammogram`."""
