"""The control: pretraining and online world model as in the conservative method, the adversarial term off.

What this row reaches is no merit of adversarial imitation.
"""

from algorithms.method import Method

METHOD = Method(
    "no_ail",
    "control: the same pretraining and online world model, adversarial term off",
    settings={"adversarial": False},
    defining=frozenset({"adversarial"}),
)
