"""The registry of methods: every method is a small file that says what differs from the shared core."""

from __future__ import annotations

from algorithms import bc, bc_cnn, cmil, conservative, no_ail, vmail, vmail_original
from algorithms.method import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD for module in (conservative, vmail, bc, bc_cnn, vmail_original, cmil, no_ail)
}
