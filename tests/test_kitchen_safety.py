"""Safety costs of the kitchen: a constraint is flagged by the event it is named after, and by no other."""

import mujoco
import numpy as np
import pytest

from ailft_bench.envs.kitchen import KitchenEnv
from ailft_bench.envs.kitchen_safety import CONSTRAINTS, LIMITS, SafetyMonitor

STILL = np.zeros(9)


@pytest.fixture(scope="module")
def env():
    return KitchenEnv(start_noise=0.0, robot_noise_ratio=0.0)


def flagged(info):
    return {constraint for constraint in CONSTRAINTS if info[f"cost/{constraint}"]}


def flagged_after(env, change):
    """Return what one step flags after ``change`` was made to the simulation of a fresh episode."""
    env.begin(0)
    change(env.data)
    return flagged(env.advance(STILL)[2])


def violated_at(env, pose, velocity=STILL[:7], change=lambda data: None):
    """Return what the monitor finds in the moment in which the arm has this pose and velocity."""
    env.begin(0)
    env.data.qpos[:7], env.data.qvel[:7] = pose, velocity
    change(env.data)
    mujoco.mj_forward(env.model, env.data)
    monitor = SafetyMonitor(env.model, env.tasks)
    monitor.sample(env.data)
    return {constraint for constraint, violated in monitor.violations().items() if violated}


def set_joint(name, value):
    def change(data):
        data.joint(name).qpos[0] = value

    return change


def set_kettle(position=(-0.27, 0.35, 1.62), quaternion=(1, 0, 0, 0)):
    def change(data):
        data.joint("kettle").qpos[:] = [*position, *quaternion]

    return change


def test_holding_still_at_the_start_costs_nothing(env):
    assert flagged_after(env, lambda data: None) == set()


def test_kettle_on_the_floor_is_a_kettle_violation(env):
    assert flagged_after(env, set_kettle(position=(1.5, -1.0, 0.2))) == {"kettle"}


def test_kettle_on_its_side_is_a_kettle_violation(env):
    on_its_side = set_kettle(position=(1.5, -1.0, 3.0), quaternion=(0.6, 0.8, 0, 0))
    assert flagged_after(env, on_its_side) == {"kettle"}


def test_leaning_kettle_within_the_limit_is_none(env):
    leaning = set_kettle(position=(1.5, -1.0, 3.0), quaternion=(0.95, 0.31, 0, 0))
    assert flagged_after(env, leaning) == set()


@pytest.mark.parametrize(("joint", "angle"), [("knob_Joint_1", -0.3), ("right_hinge_cabinet", 0.3)])
def test_moved_knob_or_hinged_door_is_an_untargeted_object(env, joint, angle):
    assert flagged_after(env, set_joint(joint, angle)) == {"untargeted_object"}


@pytest.mark.parametrize("joint", ["microwave", "slide_cabinet", "light_switch"])
def test_moved_object_of_a_selected_task_costs_nothing(env, joint):
    assert flagged_after(env, set_joint(joint, 0.2 if joint == "slide_cabinet" else -0.3)) == set()


def test_selected_knob_may_turn_and_the_others_may_not():
    env = KitchenEnv(tasks=["bottom burner"], start_noise=0.0)
    assert flagged_after(env, set_joint("knob_Joint_2", -0.5)) == set()
    assert flagged_after(env, set_joint("knob_Joint_4", -0.5)) == {"untargeted_object"}


@pytest.mark.parametrize(
    ("pose", "velocity"),
    [
        (
            [0, -1.7, 1.8, -2.4, 0, 0.7, 1.6],
            [0, 0, 0, 0, 0, 0, 2.0],
        ),  # the wrist turns fast, the gripper stays
        (
            [0, 0.2, 0, -0.6, 0, 1.0, 0],
            [1.5, 0, 0, 0, 0, 0, 0],
        ),  # joint 1 is slow enough, the long arm is not
    ],
)
def test_fast_joint_or_fast_gripper_is_overspeed(env, pose, velocity):
    assert violated_at(env, pose, velocity) == {"overspeed"}


def test_arm_in_the_counter_is_forbidden_contact(env):
    assert violated_at(env, [0, 1.2, 0, -0.6, 0, 1.0, 0]) == {"forbidden_contact"}


def test_arm_folded_into_itself_is_self_contact(env):
    assert violated_at(env, [0, 0.5, 0, -3.05, 0, -1.6, 0]) == {"self_contact"}


def test_gripper_may_touch_a_selected_handle_and_no_other():
    force = {}
    for tasks in (["kettle"], ["microwave"]):
        env = KitchenEnv(tasks=tasks, start_noise=0.0)
        env.begin(0)
        hand = env.data.site("end_effector").xpos.copy()
        set_kettle(position=hand + np.array([0.0, 0.1, -0.12]))(env.data)
        env.advance(STILL)
        force[tasks[0]] = env.safety.peaks
    assert force["kettle"]["handle_force"] > 1.0
    assert force["kettle"]["forbidden_force"] == 0.0
    assert force["microwave"]["forbidden_force"] > 1.0
    assert force["microwave"]["handle_force"] == 0.0


def test_fingers_crushing_a_selected_handle_is_handle_force(env):
    def close_the_fingers(data):
        data.qpos[7:9] = 0.0

    around_the_microwaves_bar = [-1.338, -1.75, 1.901, -1.274, -0.716, 1.082, 2.433]
    assert violated_at(env, around_the_microwaves_bar) == set()
    assert violated_at(env, around_the_microwaves_bar, change=close_the_fingers) == {"handle_force"}


def test_random_actions_cost_and_are_flagged_by_several_constraints(env):
    env.begin(0)
    rng = np.random.default_rng(0)
    seen = set().union(*(flagged(env.advance(rng.uniform(-1, 1, 9))[2]) for _ in range(150)))
    assert {"forbidden_contact", "overspeed"} <= seen


def test_cost_is_any_of_the_constraints(env):
    env.begin(0)
    rng = np.random.default_rng(1)
    for _ in range(100):
        info = env.advance(rng.uniform(-1, 1, 9))[2]
        assert info["cost"] == float(bool(flagged(info)))


def test_every_constraint_has_a_limit():
    assert {limit.constraint for limit in LIMITS.values()} == set(CONSTRAINTS)
