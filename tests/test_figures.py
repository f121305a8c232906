import io

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from synthetic_results import CONSTRAINTS, TASKS, SyntheticRun, evaluation, write_all

from ailft_bench.errors import UserError
from ailft_bench.figures import plot
from ailft_bench.figures.captions import curve_caption
from ailft_bench.figures.comparison import Cell, comparisons
from ailft_bench.figures.data import learning_table
from ailft_bench.figures.estimates import _draw_steps
from ailft_bench.figures.learning import learning_curves, legend_handles
from ailft_bench.figures.style import COLOURS, SMOKE_COLOUR, cell_colours, label_references, stretches, with_palette
from ailft_bench.results import load_results

STEPS = (0, 100, 200, 300, 400)
REFERENCES = {
    "random": evaluation(0.1, cost=300) | {"episode_length": 400.0},
    "replay": evaluation(2.3, cost=8) | {"episode_length": 400.0},
    "expert": evaluation(4, cost=2) | {"episode_length": 400.0},
}


def online(algorithm, seed, rate, last=400, **changes):
    """A run that completes ``rate`` sub-tasks more every 100 steps, and violates (seed + 1) steps in 100."""
    reached = [step for step in STEPS if step <= last]
    curve = {step: evaluation(rate * step / 100, cost=seed + 1) for step in reached}
    return SyntheticRun(algorithm, seed, curve, {step: seed + 1.0 for step in reached[1:]}, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three algorithms on three seeds: one run failed half way, one is unfinished with a torn line."""
    runs = [online("conservative", seed, rate) for seed, rate in enumerate([0.4, 0.6, 0.8])]
    runs += [online("vmail", seed, rate) for seed, rate in enumerate([0.2, 0.4])]
    runs += [online("vmail", 2, 0.1, last=200, state="failed")]
    runs += [SyntheticRun("bc", seed, {0: evaluation(seed)}, {}) for seed in (0, 1)]
    runs += [SyntheticRun("bc", 2, {}, {}, state="torn")]
    results = write_all(tmp_path_factory.mktemp("results"), runs)
    out = tmp_path_factory.mktemp("figures") / "new"
    paths = plot(load_results(results), out, {("kitchen", "cpu"): REFERENCES})
    return out, paths


def read(folder, name):
    return pd.read_csv(folder[0] / f"kitchen-cpu-{name}.csv")


def caption(folder, name):
    return Image.open(folder[0] / f"kitchen-cpu-{name}.png").text["Description"]


def select(table, algorithm, series, metric="tasks_completed"):
    chosen = (table["algorithm"] == algorithm) & (table["series"] == series) & (table["metric"] == metric)
    return table[chosen].reset_index(drop=True)


def test_every_figure_is_a_png_a_pdf_and_its_data(folder):
    names = ["learning", "success", "tasks", "efficiency", "improvement", "profiles", "stability"]
    names += ["training-cost", "cumulative-cost", "evaluation-cost", "score-against-cost", "sampled"]
    expected = {f"kitchen-cpu-{name}{suffix}" for name in names for suffix in (".png", ".pdf", ".csv")}
    assert {path.name for path in folder[1]} == expected
    assert {path.name for path in folder[0].iterdir()} == expected
    for path in folder[1]:
        if path.suffix == ".png":
            pixels = matplotlib.image.imread(path)
            assert 600 <= pixels.shape[1] <= 700
            assert 0.02 < (pixels[:, :, :3].min(axis=2) < 0.9).mean() < 0.5
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")


def test_mean_at_a_step_is_the_mean_of_seeds(folder):
    table = read(folder, "learning")
    mean = select(table, "conservative", "mean").set_index("env_step")
    assert mean["value"].to_dict() == pytest.approx({step: 0.6 * step / 100 for step in STEPS})
    assert (mean["runs"] == 3).all()
    inside = mean.loc[100:]
    assert (inside["low"] >= 0.4 * inside.index / 100 - 1e-9).all()
    assert (inside["low"] < inside["value"]).all()
    assert (inside["value"] < inside["high"]).all()


def test_failed_run_counts_up_to_its_end_and_no_further(folder):
    table = read(folder, "learning")
    seeds = select(table, "vmail", "seed")
    assert seeds.groupby("seed")["env_step"].max().to_dict() == {0: 400, 1: 400, 2: 200}
    mean = select(table, "vmail", "mean").set_index("env_step")
    assert mean["runs"].to_dict() == {0: 3, 100: 3, 200: 3, 300: 2, 400: 2}
    assert mean.loc[200, "value"] == pytest.approx(2 * (0.2 + 0.4 + 0.1) / 3)
    assert mean.loc[400, "value"] == pytest.approx(4 * (0.2 + 0.4) / 2)


def test_method_without_environment_steps_is_a_level_of_its_finished_runs(folder):
    table = read(folder, "learning")
    final = select(table, "bc", "final").iloc[0]
    assert (final["value"], final["runs"]) == (0.5, 2)
    assert np.isnan([final["low"], final["high"]]).all()  # of two runs
    assert np.isnan(final["env_step"])
    assert "bc: no environment steps, drawn as a level" in caption(folder, "learning")
    assert select(table, "bc", "mean").empty


def test_reference_lines_are_in_the_data(folder):
    table = read(folder, "learning")
    lines = table[table["series"] == "reference"].set_index("algorithm")["value"]
    assert lines.to_dict() == {"random": 0.1, "replay": 2.3, "expert": 4.0}
    rates = read(folder, "training-cost")
    assert select(rates, "expert", "reference", "cost_rate")["value"].tolist() == [2 / 400]


def test_panels_hold_the_completion_rate_of_each_task(folder):
    table = read(folder, "tasks")
    assert set(table["metric"]) == {f"completed/{task}" for task in TASKS}
    kettle = select(table, "conservative", "mean", "completed/kettle").set_index("env_step")["value"]
    assert kettle[200] == pytest.approx((0 + 0.2 + 0.6) / 3)


def test_training_cost_is_violations_so_far_by_steps_so_far(folder):
    table = read(folder, "training-cost")
    rate = select(table, "conservative", "mean", "cost_rate").set_index("env_step")["value"]
    assert rate.to_dict() == pytest.approx(dict.fromkeys(STEPS[1:], 0.02))
    assert "bc" not in set(table["algorithm"])
    assert "Without bc: no environment steps." in caption(folder, "training-cost")


def test_evaluation_cost_is_the_last_evaluation_of_finished_runs(folder):
    table = read(folder, "evaluation-cost")
    final = select(table, "vmail", "final", "cost").iloc[0]
    assert (final["value"], final["runs"]) == (1.5, 2)
    second = select(table, "conservative", "final", f"cost/{CONSTRAINTS[1]}").iloc[0]
    assert second["value"] == pytest.approx(2 / 2)
    assert select(table, "vmail", "seed", "cost")["seed"].tolist() == [0, 1]


def test_caption_says_what_is_shown_and_what_is_missing(folder):
    text = caption(folder, "learning")
    for part in (
        "Suite kitchen, scale cpu, 400 environment steps.",
        "10 episodes",
        "95 % stratified bootstrap over seeds (with ≤5 seeds optimistic, with fewer than 3 none), pointwise",
        "vmail seed 2 failed; bc seed 2 waiting",
    ):
        assert part in text


def test_every_caption_says_n_interval_scale_budget_and_that_few_seeds_are_optimistic(folder):
    pictures = [path for path in folder[1] if path.suffix == ".png"]
    assert len(pictures) == 12
    for path in pictures:
        text = Image.open(path).text["Description"]
        for part in ("scale cpu, 400 environment steps. n = 2 to 3 finished seeds each.", "vmail seed 2 failed"):
            assert part in text
        assert "95 % stratified bootstrap over seeds (with ≤5 seeds optimistic" in text


def test_caption_says_when_the_actor_begins_to_learn_online(tmp_path):
    agent = {"online": True, "prefill_steps": 100, "train_every": 5, "updates_per_train": 1}
    late = agent | {"actor_frozen_updates": 20}
    runs = [online("conservative", 0, 1, agent=agent | {"alpha": 3.0}), online("no_ail", 0, 1, agent=late)]
    (found,) = comparisons(load_results(write_all(tmp_path / "two", runs)))
    assert "Online updates of the actor begin at step 105 or 205. Bands" in curve_caption(found)
    runs.append(online("vmail", 0, 1, agent=agent | {"alpha": 0.0}))
    (found,) = comparisons(load_results(write_all(tmp_path / "three", runs)))
    assert "205; until then methods that differ in the penalty alone are one run." in curve_caption(found)


def test_caption_says_nothing_of_the_first_updates_where_full_ones_come_before_the_first_step(tmp_path):
    agent = {"online": True, "prefill_steps": 100, "train_every": 5, "updates_per_train": 1, "pretrain_updates": 10}
    (found,) = comparisons(load_results(write_all(tmp_path, [online("vmail", 0, 1, agent=agent)])))
    assert "Online updates" not in curve_caption(found)


def test_missing_seeds_in_a_row_are_a_range_in_the_caption(tmp_path):
    runs = [SyntheticRun("vmail", seed, {400: evaluation(1)}, {}) for seed in range(14)]
    runs += [SyntheticRun("conservative", seed, {400: evaluation(1)}, {}) for seed in (1, 9, 12)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    assert "Not run: conservative seeds 0, 2 to 8, 10, 11, 13." in curve_caption(found)


def test_sampled_actions_are_beside_the_mean_action(folder):
    table = read(folder, "sampled")
    mean, sampled = (select(table, "conservative", "final", f"{kind}tasks_completed") for kind in ("", "sampled/"))
    assert mean["value"].item() == pytest.approx(2 * sampled["value"].item())
    assert select(table, "vmail", "seed", "sampled/tasks_completed")["seed"].tolist() == [0, 1]


def test_without_captions_pictures_are_lower_and_the_text_is_beside_them(tmp_path):
    loaded = load_results(write_all(tmp_path / "results", [online("conservative", seed, 1.0) for seed in (0, 1)]))
    bare, full = tmp_path / "bare", tmp_path / "full"
    plot(loaded, bare, for_print=False, captions=False)
    plot(loaded, full, for_print=False)
    for path in full.glob("*.png"):
        lower = Image.open(bare / path.name)
        assert lower.height < Image.open(path).height - 100
        assert lower.text["Description"] == (bare / path.name).with_suffix(".txt").read_text().strip()
    assert not list(full.glob("*.txt"))


def test_equal_curves_share_the_road_and_others_are_solid():
    steps = np.arange(10.0)
    rise, other = 0.1 * steps, 1 - 0.05 * steps**2
    whole, half = slice(0, 10), (0, (6, 6))
    assert stretches([(steps, rise), (steps, other)]) == [[(whole, "-")], [(whole, "-")]]
    first, second, third, apart = stretches([(steps, rise), (steps, rise), (steps[:8], rise[:8]), (steps, other)])
    # Of three, each shows on a third of the period: the one below where those above have gaps.
    assert first == apart == [(whole, "-")]
    assert second == [(slice(0, 8), (0, (8, 4))), (slice(7, 10), half)]
    assert third == [(slice(0, 8), (0, (4, 8)))]
    assert stretches([(steps, 0 * rise), (steps, 0 * rise)]) == [[(whole, "-")], [(whole, half)]]
    nothing = np.empty(0)
    assert stretches([(nothing, nothing), (nothing, nothing)]) == [[], []]


def test_stairs_run_together_until_the_step_at_which_they_part():
    steps = np.array([0.0, 9.0, 10.0])
    early, late = np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])
    assert stretches([(steps, early), (steps, late)], stairs=True)[1] == [
        (slice(0, 2), (0, (6, 6))),
        (slice(1, 3), "-"),
    ]


def test_step_by_which_a_curve_leaves_another_one_is_drawn_whole(tmp_path):
    comparison = comparison_of(tmp_path, [online("conservative", 0, 1.0), online("vmail", 0, 1.0)])
    own = {"conservative": [1.0, 1.0, 0.0], "vmail": [1.0, 0.5, 0.0]}
    rows = [(name, "default", x, value) for name, values in own.items() for x, value in enumerate(values)]
    axes = Figure().subplots()
    _draw_steps(axes, pd.DataFrame(rows, columns=["algorithm", "variant", "x", "value"]), comparison, "x")
    whole = [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == "-"]
    assert [[1.0, 1.0], [1.0, 0.5]] in whole
    assert sum(line.get_linestyle() != "-" for line in axes.lines) == 1


def test_long_curve_that_parts_for_a_moment_stays_dashed():
    steps = np.arange(200.0)
    flat, pricked = np.ones(200), np.where(steps == 100, 2.0, 1.0)
    assert stretches([(steps, flat), (steps, pricked)])[1] == [(slice(0, 200), (0, (6, 6)))]


def test_curve_that_leaves_another_one_is_solid_from_there_on_and_gaps_stay_gaps():
    steps = np.arange(10.0)
    flat = np.ones(10)
    parted = np.where(steps < 5, 1.0, steps)
    assert stretches([(steps, flat), (steps, parted)])[1] == [(slice(0, 5), (0, (6, 6))), (slice(4, 10), "-")]
    holed = np.where((steps > 2) & (steps < 6), np.nan, 1.0)
    pieces = stretches([(steps, flat), (steps, holed)])[1]
    assert [(points.start, points.stop) for points, _ in pieces] == [(0, 3), (2, 7), (6, 10)]


def comparison_of(tmp_path, runs):
    (comparison,) = comparisons(load_results(write_all(tmp_path, runs)))
    return comparison


def curve_of(comparison, algorithm="conservative"):
    """Return the mean curve of an algorithm, by step."""
    table = learning_table(comparison, ["tasks_completed"], {})
    return select(table, algorithm, "mean").set_index("env_step")


def test_legend_counts_seeds_and_names_algorithms_without_data(tmp_path):
    runs = [online("conservative", 0, 1.0), online("conservative", 1, 1.0, last=200, state="failed")]
    runs += [SyntheticRun("bc", 1, {}, {}, state="waiting")]
    comparison = comparison_of(tmp_path, runs)
    handles = legend_handles(comparison, learning_table(comparison, ["tasks_completed"], {}))
    labels = [handle.get_label() for handle in handles]
    assert labels == ["conservative (1/2 seeds)", "bc (0/2 seeds, no data)"]


def test_older_configuration_is_left_out_and_counted(tmp_path):
    runs = [online("conservative", seed, 0.1, agent={"alpha": 1.0}) for seed in (0, 1)]
    runs += [online("conservative", 0, 1.0, agent={"alpha": 3.0}, created="2026-12-01T00:00:00")]
    comparison = comparison_of(tmp_path, runs)
    assert curve_of(comparison).loc[400, "value"] == 4
    assert "Left out: 2 runs of older configurations." in curve_caption(comparison)


def test_one_seed_has_a_line_and_no_band(tmp_path):
    mean = curve_of(comparison_of(tmp_path, [online("conservative", 0, 0.5)]))
    assert mean["value"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert mean[["low", "high"]].isna().all(axis=None)


def test_scales_are_never_mixed(tmp_path):
    runs = [online("conservative", 0, 1.0), online("conservative", 0, 0.1, scale="smoke")]
    found = comparisons(load_results(write_all(tmp_path, runs)))
    highest = {comparison.scale: curve_of(comparison)["value"].max() for comparison in found}
    assert highest == pytest.approx({"cpu": 4, "smoke": 0.4})


def test_smoke_scale_is_stamped_and_no_other(tmp_path):
    runs = [online("conservative", 0, 1.0), online("conservative", 0, 0.1, scale="smoke")]
    for comparison in comparisons(load_results(write_all(tmp_path, runs))):
        drawn = learning_curves(comparison, tmp_path, {})[0]
        title = matplotlib.image.imread(drawn)[:40, :, :3]
        red = np.abs(title - matplotlib.colors.to_rgb(SMOKE_COLOUR)).max(axis=2) < 0.05
        assert red.any() == (comparison.scale == "smoke")


def test_same_results_give_the_same_files(tmp_path):
    comparison = comparison_of(tmp_path, [online("conservative", seed, seed) for seed in (0, 1)])
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in learning_curves(comparison, tmp_path / name, {})])
    assert contents[0] == contents[1]


def test_another_algorithm_moves_no_band(tmp_path):
    runs = [online("vmail", seed, 0.3 * seed) for seed in range(3)]
    alone = curve_of(comparison_of(tmp_path, runs), "vmail")
    both = curve_of(comparison_of(tmp_path, [online("conservative", 0, 1)]), "vmail")
    pd.testing.assert_frame_equal(alone, both)


def test_dense_curves_are_thinned_and_end_where_they_end(tmp_path):
    dense = {step: evaluation(4 * step / 5000) for step in range(0, 5001, 5)}
    mean = curve_of(comparison_of(tmp_path, [SyntheticRun("conservative", 0, dense, {}, env_steps=5000)]))
    assert len(mean) <= 500
    assert mean["value"].iloc[-1] == mean.loc[5000, "value"] == 4
    # Carried forward: a value is never that of a later evaluation.
    assert (mean["value"] <= 4 * mean.index / 5000 + 1e-12).all()


def test_nothing_evaluated_yet_is_an_error_that_says_what_to_do(tmp_path):
    write_all(tmp_path, [SyntheticRun("conservative", 0, {}, {100: 1.0}, state="waiting")])
    with pytest.raises(UserError, match=r"no evaluation rows yet in any of 1 runs; .* ailft-bench run kitchen"):
        plot(load_results(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lines_of_a_dose_stand_by_its_size_after_the_projects_own_methods(tmp_path):
    names = ["alpha_100", "alpha_30", "alpha_030", "alpha_3e-1", "alpha", "conservative"]
    runs = [SyntheticRun(name, 0, {400: evaluation(1)}, {}) for name in names]
    runs += [SyntheticRun("alpha_30", 0, {400: evaluation(1)}, {}, variant=f"wide_{size}") for size in (16, 8)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    assert [cell.label for cell in found.cells] == [
        *("conservative", "alpha", "alpha_3e-1", "alpha_030"),
        *("alpha_30", "alpha_30+wide_8", "alpha_30+wide_16", "alpha_100"),
    ]


def test_colours_are_fixed_and_distinct_whatever_else_is_drawn():
    mine = [Cell(name, "default") for name in ("airl", "gail", "sqil", "dac", "iq")]
    fixed = [Cell(name, "default") for name in COLOURS]
    chosen = cell_colours(fixed + mine + [Cell("vmail", "k1"), Cell("vmail", "k3")])
    assert len(set(chosen.values())) == len(chosen)
    assert {cell.algorithm: chosen[cell] for cell in fixed} == COLOURS
    assert cell_colours([mine[0]]) == cell_colours([mine[0], Cell("conservative", "default")][:1])
    assert cell_colours(reversed([*fixed, *mine])) == cell_colours(fixed + mine)


def test_a_variant_can_be_told_from_its_algorithm_in_any_colour():
    names = [*COLOURS, *(f"alpha_{weight}" for weight in range(7))]
    cells = [Cell(name, variant) for name in names for variant in ("default", "a", "b", "c")]
    chosen = {cell: np.array(matplotlib.colors.to_rgb(colour)) for cell, colour in cell_colours(cells).items()}
    assert any(not colour.any() for colour in chosen.values())  # black, the hardest, is among them
    for cell, colour in chosen.items():
        if cell.variant != "default":
            assert np.linalg.norm(colour - chosen[Cell(cell.algorithm, "default")]) > 0.2


def test_labels_of_close_references_do_not_overlap():
    axes = matplotlib.figure.Figure().subplots()
    axes.set_ylim(0, 4)
    label_references(axes, {"random": 3.9, "replay": 3.95, "expert": 40.0, "other": 0.0})
    places = sorted(text.xy[1] for text in axes.texts)
    assert (np.diff(places) >= 0.075 * 4 - 1e-9).all()
    assert any("40" in text.get_text() for text in axes.texts)
    assert axes.get_ylim() == (0, 4)


@pytest.mark.parametrize("seed", range(3))
def test_256_colours_look_like_all_of_them_at_half_the_size_and_keep_the_texts(seed):
    rng = np.random.default_rng(seed)
    figure = Figure(figsize=(3.3, 3.3), facecolor="white", dpi=200)
    axes = figure.subplots()
    for colour in rng.uniform(size=(8, 3)):
        low = rng.uniform(size=20)
        axes.fill_between(range(20), low, low + 0.3, color=tuple(colour), alpha=0.2)
        axes.plot(low, color=tuple(colour))
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Description": "≤5 seeds"})
    small = with_palette(png.getvalue())
    before, after = (Image.open(io.BytesIO(content)) for content in (png.getvalue(), small))
    assert len(small) < len(png.getvalue()) / 2
    assert after.text["Description"] == "≤5 seeds"
    assert after.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    pixels = [np.asarray(picture.convert("RGB"), dtype=float) for picture in (before, after)]
    assert abs(pixels[0] - pixels[1]).mean() < 2
    assert (abs(pixels[0] - pixels[1]).max(axis=-1) > 32).mean() < 0.01
