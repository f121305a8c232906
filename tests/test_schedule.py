"""The schedule of a run: phases in order, each exactly as long as its budget."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from ailft_bench.schedule import Counters, Schedule
from algorithms.config import AgentConfig

ORDER = ["pretrain", "clone", "prefill", "adapt", "online", "done"]
BUDGETS = st.integers(0, 6)


def walk(schedule: Schedule) -> list[tuple[str, tuple[int, int]]]:
    """Return phase and progress before every unit of work, as a run goes through them."""
    counters, seen = Counters(), []
    while not seen or seen[-1][0] != "done":
        phase = schedule.phase(counters)
        seen.append((phase, schedule.progress(phase, counters)))
        counters.pretrained += phase == "pretrain"
        counters.cloned += phase == "clone"
        counters.adapted += phase == "adapt"
        counters.env_step += phase in ("prefill", "online")
    return seen


def settings(pretrain: int, clone: int, prefill: int, adapt: int, online: bool = True) -> AgentConfig:
    return AgentConfig(
        pretrain_updates=pretrain, bc_pretrain=clone, prefill_steps=prefill, adapt_updates=adapt, online=online
    )


@given(BUDGETS, BUDGETS, BUDGETS, BUDGETS, st.integers(0, 12))
def test_phases_come_in_order_and_each_lasts_as_long_as_its_budget(pretrain, clone, prefill, adapt, env_steps):
    phases = [phase for phase, _ in walk(Schedule(settings(pretrain, clone, prefill, adapt), env_steps))]
    lengths = {phase: len(list(group)) for phase, group in groupby(phases)}
    assert list(lengths) == sorted(lengths, key=ORDER.index)
    online = max(0, env_steps - prefill)
    expected = {"pretrain": pretrain, "clone": clone, "prefill": min(prefill, env_steps)}
    expected |= {"adapt": adapt if online else 0, "online": online, "done": 1}
    assert lengths == {phase: length for phase, length in expected.items() if length}


@given(BUDGETS, BUDGETS, BUDGETS, BUDGETS, st.integers(0, 12))
def test_progress_rises_within_a_phase_and_never_passes_its_budget(pretrain, clone, prefill, adapt, env_steps):
    for _, group in groupby(walk(Schedule(settings(pretrain, clone, prefill, adapt), env_steps)), lambda row: row[0]):
        amounts = [progress for _, progress in group]
        assert [done for done, _ in amounts] == list(range(amounts[0][0], amounts[0][0] + len(amounts)))
        assert all(done <= budget for done, budget in amounts)


def test_a_method_that_stays_at_home_ends_with_its_cloning():
    phases = [phase for phase, _ in walk(Schedule(settings(0, 2, 3, 4, online=False), 100))]
    assert phases == ["clone", "clone", "done"]
