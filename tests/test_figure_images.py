"""Figures compared with pictures of them in ``tests/baselines``.

After a change that is meant to be seen: ``python tests/test_figure_images.py`` draws the pictures anew; look at
them before committing. Other versions of matplotlib place text differently, so they are not compared.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import pytest
from matplotlib.testing.compare import compare_images
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.figures import estimates, learning, safety, sampled, style
from ailft_bench.figures.comparison import comparisons
from ailft_bench.results import load_results

BASELINES = Path(__file__).parent / "baselines"
DRAWN_WITH = "3.11"
#: Root mean square difference of pixels (0 to 255): rounding passes, a moved or recoloured line does not.
TOLERANCE = 4
REFERENCES = {"random": evaluation(0.1, cost=30), "replay": evaluation(2.3, cost=8), "expert": evaluation(4, cost=2)}
FIGURES = {
    "learning": lambda comparison, out: learning.learning_curves(comparison, out, REFERENCES),
    "tasks": lambda comparison, out: learning.task_curves(comparison, out, REFERENCES),
    "improvement": estimates.improvement,
    "profiles": estimates.profiles,
    "stability": estimates.stability,
    "sampled": sampled.both_evaluations,
    "evaluation-cost": safety.evaluation_cost,
}


def run(algorithm, seed, rates, last=400, **changes):
    """A run whose curve rises by ``rates`` every 100 steps."""
    curve, score = {}, 0.0
    for step, rate in zip(range(0, last + 1, 100), (0.0, *rates), strict=False):
        score += rate
        curve[step] = evaluation(score, cost=10 - score)
    return SyntheticRun(algorithm, seed, curve, {step: seed + 1.0 for step in curve if step}, **changes)


def study():
    """The control equals the method; one run of VMAIL failed half way; BC takes no steps."""
    shapes = [(0.2, 1.0, 1.0, 1.5), (0.5, 0.5, 1.5, -0.5), (1.0, 1.5, 0.5, 1.0)]
    runs = [run(name, seed, rates) for name in ("conservative", "no_ail") for seed, rates in enumerate(shapes)]
    runs += [run("vmail", seed, (0.1, 0.3, 0.2 * seed, 0.4)) for seed in (0, 1)]
    runs += [run("vmail", 2, (0.4, 0.2), last=200, state="failed")]
    return runs + [run("bc", seed, (), last=0) for seed in range(3)]


def draw(name, folder):
    (comparison,) = comparisons(load_results(write_all(folder / "results", study())))
    with style.appearance(for_print=False, captions=True), matplotlib.rc_context({"savefig.dpi": 80}):
        return next(path for path in FIGURES[name](comparison, folder) if path.suffix == ".png")


@pytest.mark.skipif(not matplotlib.__version__.startswith(f"{DRAWN_WITH}."), reason=f"drawn with {DRAWN_WITH}")
@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_before(name, tmp_path):
    assert compare_images(BASELINES / f"{name}.png", draw(name, tmp_path), TOLERANCE) is None


if __name__ == "__main__":
    BASELINES.mkdir(exist_ok=True)
    for figure in FIGURES:
        with TemporaryDirectory() as scratch:
            draw(figure, Path(scratch)).replace(BASELINES / f"{figure}.png")
