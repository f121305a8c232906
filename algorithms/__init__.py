"""Model-based adversarial imitation learning: one shared core and one small file a method.

The core implements equations 2 to 9 of "Model-Based Adversarial Imitation Learning As Online Fine-Tuning"
(later "Efficient Imitation Learning with Conservative World Models", L4DC 2024). This package knows nothing
of suites, launching or results: it never imports the harness.
"""
