"""The harness: suites, launching, the run store, environments, demonstrations, statistics and figures.

Importing this package registers its environments with gymnasium (``ailft/Kitchen-v0`` and friends).
"""

from ailft_bench.envs import register_with_gymnasium

__version__ = "0.1.0"

register_with_gymnasium()
