"""Settings of the whole test suite."""

from hypothesis import settings

# The first example pays for lazy imports; speed is measured elsewhere, never asserted.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
