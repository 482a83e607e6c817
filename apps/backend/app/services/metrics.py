"""Every metric of this process, as a constant; labels are closed sets."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

INGEST_ROWS_TOTAL: Final = Counter("lm_ingest_rows", "Records of ingested files, by what became of them.", ["outcome"])
# Series that exist from the start: what first appears with a value is no increase to Prometheus.
for _outcome in ("inserted", "duplicates", "rejected"):
    INGEST_ROWS_TOTAL.labels(outcome=_outcome)
FEATURES_BUILT_TOTAL: Final = Counter("lm_features_built", "Feature vectors written because they were new or differed.")
