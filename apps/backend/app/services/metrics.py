"""Every metric of this process, as a constant; labels are closed sets."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

INGEST_ROWS_TOTAL: Final = Counter("lm_ingest_rows", "Records of ingested files, by what became of them.", ["outcome"])
FEATURES_BUILT_TOTAL: Final = Counter("lm_features_built", "Feature vectors written because they were new or differed.")
