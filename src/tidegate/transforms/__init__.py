"""Run the Spark transforms of `transforms/`: Parquet files in, one Parquet file out.

What a transform computes stands in its own module under `transforms/`; when it runs is a DAG's business.
"""

from tidegate.transforms.catalog import Transform, load, names
from tidegate.transforms.runner import Output, run

__all__ = ["Output", "Transform", "load", "names", "run"]
