"""The registry of metrics: what every number of the products is, in which file and column, with its unit and its null.

    >>> from weight_atlas import metrics
    >>> metrics.metric("effective_rank.erank_relative").null
    1
    >>> [each.column for each in metrics.of("token_counts").metrics]
    ['count', 'document_frequency']

The data are the YAML files beside this one, a file for each part of the atlas; docs/metrics.md is written from them.
Steps that compute do not import it: a better word in a definition must not run them again.
"""

from weight_atlas.metrics.metric import Metric
from weight_atlas.metrics.registry import metric, of, table_of, tables
from weight_atlas.metrics.table import Table

__all__ = ["Metric", "Table", "metric", "of", "table_of", "tables"]
