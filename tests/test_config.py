import pytest

from algorithms.config import PRESETS, AgentConfig, SettingError
from algorithms.methods import METHODS


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_resolves_at_every_preset(method: str, preset: str) -> None:
    config = METHODS[method].configure(preset, own={"bc_pretrain": 10})
    for key in METHODS[method].defining:
        assert getattr(config, key) == METHODS[method].settings[key]


OURS = (
    *("disc_action_scale", "model_bc_scale", "pretrain_lr_scale", "average_decay", "acting"),
    *("adapt_updates", "actor_frozen_updates"),
)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", ["cmil", "vmail_original"])
def test_published_methods_take_no_help_of_ours_from_a_preset(method: str, preset: str) -> None:
    config = METHODS[method].configure(preset, {"exploration_noise": 0.2, "prefill_noise": 0.1}, own={})
    assert {name: getattr(config, name) for name in OURS} == {name: getattr(AgentConfig(), name) for name in OURS}
    assert config.prefill_noise == config.exploration_noise


def test_later_layers_win_but_the_method_wins_over_shared_settings() -> None:
    own = {"horizon": 3, "bc_pretrain": 1}
    config = METHODS["vmail"].configure("cpu", {"alpha": 7.0, "lam": 0.5}, {"lam": 0.6}, own=own)
    assert (config.alpha, config.lam, config.horizon) == (0.0, 0.6, 3)
    assert config.depth == PRESETS["cpu"]["depth"]


def test_what_defines_a_method_cannot_be_changed_under_its_name() -> None:
    with pytest.raises(SettingError, match="what makes vmail") as caught:
        METHODS["vmail"].configure("cpu", own={"alpha": 3.0})
    assert caught.value.key == "alpha"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("alpah", 1.0, "alpha"),
        ("alpha", -1.0, "at least 0"),
        ("alpha", "3", "a finite number"),
        ("alpha", float("nan"), "a finite number"),
        ("alpha", float("inf"), "a finite number"),
        ("depth", 1.5, "an integer"),
        ("depth", True, "an integer"),
        ("adversarial", 1, "true or false"),
        ("reward_form", "logits", "logit, prob, gail"),
        ("lam", 1.2, "0 to 1"),
        ("imagination_starts", 0, "at least 1"),
        ("kl_balance", "no", "a finite number or null"),
    ],
)
def test_bad_settings_say_what_is_allowed(key: str, value: object, allowed: str) -> None:
    with pytest.raises(SettingError) as caught:
        AgentConfig.from_settings({key: value})
    assert (caught.value.key, caught.value.value) == (key, value) or value != value
    assert allowed in caught.value.allowed


def test_integers_are_welcome_where_numbers_are() -> None:
    assert AgentConfig.from_settings({"alpha": 3, "kl_balance": None}) == AgentConfig(alpha=3.0, kl_balance=None)


def test_cloning_without_a_budget_is_refused() -> None:
    with pytest.raises(SettingError, match="bc_pretrain"):
        METHODS["bc"].configure("paper", own={})


def test_control_that_trains_no_actor_is_refused() -> None:
    with pytest.raises(SettingError, match="trains the actor"):
        METHODS["no_ail"].configure("paper", own={})
    with pytest.raises(SettingError, match="bc_pretrain"):
        METHODS["bc"].configure("paper", own={"adapt_updates": 5})
    assert METHODS["no_ail"].configure("paper", own={"adapt_updates": 5}).adapt_updates == 5


@pytest.mark.parametrize(("fraction", "rows"), [(0.0, 0), (0.01, 1), (0.5, 6), (1.0, 12)])
def test_any_share_of_expert_rows_is_at_least_one_row(fraction: float, rows: int) -> None:
    assert AgentConfig(demo_batch_fraction=fraction, batch_size=12).expert_rows == rows


def test_shift_by_half_a_folded_pixel_is_refused() -> None:
    with pytest.raises(SettingError, match=r"random_shift: 3 .*even"):
        AgentConfig(random_shift=3)
