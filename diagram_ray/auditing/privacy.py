"""Pictures that may tell the patient."""

import numpy as np
import pandas as pd

from diagram_ray.auditing.findings import Finding, Severity, counted, some


def privacy_findings(manifest: pd.DataFrame) -> list[Finding]:
    """The findings about the manifest's column `burned_in`, which holds what (0028,0301) Burned In Annotation says of
    each image's file.

    Preparation blanks what lies outside of the breast; it cannot tell letters on the breast from calcifications.
    """
    if "burned_in" not in manifest:
        return []
    flagged = [isinstance(flag, bool | np.bool_) and bool(flag) for flag in manifest["burned_in"]]
    ids = sorted(manifest.loc[flagged, "image_id"].astype(str))
    if not ids:
        return []
    sentence = (
        f"{counted(len(ids), 'image says', 'images say')} that text in the pixels tells the patient ({some(ids)}). "
        "What is outside of the breast has been blanked, what is on it has not: look before you pass pictures on."
    )
    return [Finding(Severity.WARNING, "burned-in", sentence, {"images": ids[:20], "count": len(ids)})]
