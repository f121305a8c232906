"""VMAIL as the matched baseline: the same core, everything equal, without conservatism (alpha = 0)."""

from algorithms.method import Method

METHOD = Method(
    "vmail",
    "the same core without the penalty (alpha = 0), all else equal",
    settings={"alpha": 0.0},
    defining=frozenset({"alpha"}),
)
