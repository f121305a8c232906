"""The paper's method: adversarial imitation through the model, penalised by ensemble disagreement (alpha > 0)."""

from algorithms.method import Method

METHOD = Method("conservative", "the paper: eq. 2-9 with the disagreement penalty (alpha > 0)")
