"""``python -m ailft_bench`` is ``ailft-bench``."""

from ailft_bench.cli import main

main()
