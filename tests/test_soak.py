"""The soak in its short form; ``make soak`` is the long one."""

from __future__ import annotations

import pytest
from slurm_cluster import missing
from soak import soak


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_nothing_is_lost_while_everything_is_killed_at_random() -> None:
    figures, wrong = soak(minutes=0.75, seeds=2, seed=1)
    assert not wrong, figures
    print(figures)
