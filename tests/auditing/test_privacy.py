"""Images whose file says that text is burned into them are told, and no others."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.privacy import privacy_findings

Make = Callable[..., pd.DataFrame]


@pytest.mark.parametrize("kind", [object, "boolean"])
def test_what_files_say_of_burned_in_text(make_manifest: Make, kind: object) -> None:
    """Whatever the column's type becomes on its way through Parquet: true, false or unknown."""
    manifest = make_manifest(10)
    flags = pd.Series([None, False] * (len(manifest) // 2), dtype=object)
    assert privacy_findings(manifest.assign(burned_in=flags.astype(kind))) == []
    flags[[3, 5]] = True
    (finding,) = privacy_findings(manifest.assign(burned_in=flags.astype(kind)))
    assert (finding.code, finding.severity) == ("burned-in", Severity.WARNING)
    ids = manifest["image_id"][[3, 5]].tolist()
    assert finding.details == {"images": sorted(ids), "count": 2}
    assert finding.sentence.startswith(
        f"2 images say that text in the pixels tells the patient ({', '.join(sorted(ids))})"
    )


def test_nothing_is_said_where_nothing_is_known(make_manifest: Make) -> None:
    manifest = make_manifest(4)
    assert privacy_findings(manifest) == []
    assert privacy_findings(manifest.assign(burned_in=np.nan)) == []
    assert privacy_findings(manifest.assign(burned_in="YES")) == []
