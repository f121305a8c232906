"""Tables of results for people: headline, comparison, tasks, actions, safety, runs; as Markdown, LaTeX or HTML.

Every number is over finished runs, and every table says how many of the wanted seeds these are.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from ailft_bench import statistics
from ailft_bench.figures import summaries
from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.figures.data import final_table, finals, rng_for

SCORE = "tasks_completed"
MISSING = "\N{EN DASH}"


def of(comparison: Comparison, references: Mapping[str, Mapping[str, float]]) -> dict[str, pd.DataFrame]:
    """Return every table that has rows, by the name that its file has in a bundle."""
    built = {
        "headline": headline(comparison, references),
        "comparison": against_baseline(comparison),
        "control": against_control(comparison),
        "tasks": tasks(comparison),
        "actions": actions(comparison),
        "safety": safety(comparison),
        "runs": runs(comparison),
    }
    return {name: table for name, table in built.items() if not table.empty}


def headline(comparison: Comparison, references: Mapping[str, Mapping[str, float]] | None = None) -> pd.DataFrame:
    """Return, for each algorithm, how well, how fast, how steadily and how safely it learned, with intervals.

    IQM is the interquartile mean of the final score; other numbers are means over runs. Where seeds are not
    finished, ``worst case`` is the mean score that counts each of them as no sub-task at all. ``in training
    episodes`` is the score of all of these, with the actions and the noise of training. A run that never reached
    the threshold counts with the whole budget in the steps to it; ``reached`` says how many did. The measured
    ``references`` are the last rows.
    """
    level = summaries.threshold(comparison)
    areas, delays, stability = (
        table(comparison) for table in (summaries.area_table, summaries.delay_table, summaries.stability_table)
    )
    episodes = summaries.training_score_table(comparison)
    rates = summaries.training_cost_table(comparison, "cost_rate", statistics.cost_rate)
    rows = []
    incomplete = (comparison.runs["state"] != "done").any()
    for cell in comparison.cells:
        values = comparison.final_rows(cell, SCORE)["value"].to_numpy()
        row = {"algorithm": cell.label, "seeds": comparison.seeds(cell).split()[0], "IQM": MISSING}
        if values.size:
            scores = values[:, None]
            rng = rng_for(comparison, "headline", cell)
            row["IQM"] = interval(statistics.iqm(scores), *statistics.bootstrap_interval(scores, statistics.iqm, rng))
        row["mean"] = number(values.mean()) if values.size else MISSING
        if incomplete:
            row["worst case"] = number(values.sum() / len(comparison.runs_of(cell)))
        row["success"] = _mean(comparison, "success", cell)
        arrived = _arrived(comparison, cell)
        row |= {
            "average over training": _estimate(areas, cell),
            "in training episodes": _estimate(episodes, cell),
            # The restricted mean of runs none of which arrived is the budget: no speed was measured.
            f"steps to {level:g}": _estimate(delays, cell) if arrived else MISSING,
            f"reached {level:g}": MISSING if comparison.is_offline(cell) else f"{arrived}/{values.size}",
            "lost again": _estimate(stability[stability["metric"] == "drawdown"], cell),
            f"unsteadiness in {summaries.PER_STEPS:,} steps": _estimate(
                stability[stability["metric"] == "dispersion_across_time"], cell
            ),
            "spread over seeds": _estimate(stability[stability["metric"] == "dispersion_across_runs"], cell),
            "cost rate in training": _estimate(rates, cell),
        }
        row["cost at evaluation"] = _mean(comparison, "cost", cell)
        rows.append(row)
    for name, scores_of in (references or {}).items():
        row = dict.fromkeys(rows[0], MISSING) | {"algorithm": f"{name} (reference)"}
        row |= {"mean": number(scores_of[SCORE]), "success": number(scores_of.get("success", math.nan))}
        rows.append(row | {"cost at evaluation": number(scores_of.get("cost", math.nan))})
    return pd.DataFrame(rows)


def against_baseline(comparison: Comparison) -> pd.DataFrame:
    """Return each algorithm against VMAIL, under whatever name the suite has it; see ``against``."""
    return against(comparison, summaries.baseline_of)


def against_control(comparison: Comparison) -> pd.DataFrame:
    """Return each algorithm against the control, whose adversarial term is off; see ``against``."""
    return against(comparison, summaries.control_of)


def against(comparison: Comparison, opponent: Callable[[Comparison, Cell], Cell]) -> pd.DataFrame:
    """Return each algorithm against its ``opponent``: probability of improvement, paired difference, corrected p.

    Pairs are runs of the same seed, finished in both; p is the sign-flip test's after Holm's correction over
    the rows of this table.
    """
    improvement = summaries.improvement_table(comparison, opponent)
    rows, p_values = [], []
    opponents = {cell: opponent(comparison, cell) for cell in comparison.cells}
    for cell, baseline in opponents.items():
        x, y = comparison.common_finals(cell, baseline)
        if cell == baseline or not x.size:
            continue
        rng = rng_for(comparison, "paired", cell)
        difference = interval(float((x - y).mean()), *statistics.paired_interval(x, y, rng))
        p_values.append(statistics.sign_flip_test(x, y, rng))
        rows.append(
            {
                "algorithm": cell.label,
                "against": baseline.label,
                "P(better)": _estimate(improvement, cell),
                "difference": difference,
                "pairs": str(len(x)),
            }
        )
    if not rows:
        return pd.DataFrame()
    corrected = statistics.holm(p_values)
    return pd.DataFrame(rows).assign(**{f"p (Holm, {len(rows)} tests)": [f"{p:.3f}" for p in corrected]})


def tasks(comparison: Comparison) -> pd.DataFrame:
    """Return the completion rate of each sub-task at the final evaluation."""
    return _finals(comparison, [f"completed/{name}" for name in comparison.names("completed/")], "completed/")


def actions(comparison: Comparison) -> pd.DataFrame:
    """Return the final evaluation of the policy's mean action beside that of actions sampled from it."""
    words = {SCORE: "sub-tasks", "success": "success", "cost": "cost"}
    shown = [metric for metric in words if f"sampled/{metric}" in comparison.names("")]
    pairs = {
        name: label
        for metric in shown
        for name, label in ((metric, f"{words[metric]}, mean"), (f"sampled/{metric}", f"{words[metric]}, sampled"))
    }
    return _finals(comparison, list(pairs), "").rename(columns=pairs) if pairs else pd.DataFrame()


def safety(comparison: Comparison, limit: float = 0.0) -> pd.DataFrame:
    """Return costs of the trained policies by constraint, and what training cost.

    ``rate once the actor learns`` leaves out what methods that differ in the penalty alone have in common.
    ``limit``: an episode of training with more violating steps counts as unsafe.
    """
    names = comparison.names("cost/")
    if "cost" not in comparison.names(""):
        return pd.DataFrame()
    table = _finals(comparison, ["cost", *(f"cost/{name}" for name in names)], "cost/")
    table = table.rename(columns={"cost": "violating steps an episode"} | {name: _words(name) for name in names})
    for column, metric, measure, learning in (
        ("rate in training", "cost_rate", statistics.cost_rate, False),
        ("rate once the actor learns", "cost_rate_learning", statistics.cost_rate, True),
        ("unsafe training episodes", "exceedance", lambda costs, steps: statistics.exceedance(costs, limit), False),
        ("worst 10 % of them", "cvar", lambda costs, steps: statistics.cvar(costs, 0.1, "upper"), False),
    ):
        found = summaries.training_cost_table(comparison, metric, measure, learning)
        table[column] = [_estimate(found, cell) for cell in comparison.cells]
    return table


def runs(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each run, wanted and missing ones included, with its provenance."""
    rows = []
    evaluated = {cell: comparison.rows(cell, "eval", SCORE) for cell in comparison.cells}
    ends = {cell: found.drop_duplicates("seed", keep="last") for cell, found in evaluated.items()}
    last = {
        (cell, seed): score for cell, end in ends.items() for seed, score in zip(end["seed"], end["value"], strict=True)
    }
    wanted = [(cell, run) for cell in comparison.cells for run in comparison.runs_of(cell).itertuples()]
    for cell, run in wanted:
        spec = comparison.specs.get(str(run.run_id))
        commit = (spec.provenance.get("commit") or "")[:10] if spec else ""
        rows.append(
            {
                "algorithm": cell.label,
                "seed": str(run.seed),
                "state": run.state,
                "steps": f"{run.env_steps:,} of {run.budget:,}",
                "last score": number(last.get((cell, run.seed), math.nan)),
                "run": run.run_id or MISSING,
                "commit": (commit + ("+" if spec and spec.provenance.get("dirty") else "")) or MISSING,
                "host": (spec.provenance.get("host") or MISSING) if spec else MISSING,
                "why": str(run.reason).splitlines()[0] if run.reason else "",
            }
        )
    return pd.DataFrame(rows)


def number(value: float) -> str:
    """Return a number with as many digits as can be told apart."""
    if not math.isfinite(value):
        return MISSING
    if 0 < abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def interval(value: float, low: float, high: float) -> str:
    """Return ``1.23 [1.10, 1.35]``; without the brackets where there is no interval, or one without a width.

    Runs that are all alike, or all better than all others, leave the bootstrap nothing to vary: that is not certainty.
    """
    if not math.isfinite(low) or math.isclose(low, high, abs_tol=1e-9):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def to_markdown(table: pd.DataFrame) -> str:
    """Return the table in GitHub's Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def to_latex(table: pd.DataFrame) -> str:
    """Return the table as a LaTeX ``tabular`` with the rules of ``booktabs``."""
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in (list(table.columns), *table.to_numpy().tolist())]
    begin = rf"\begin{{tabular}}{{l{'r' * (table.shape[1] - 1)}}}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", ""])


def to_html(table: pd.DataFrame) -> str:
    """Return the table as HTML; a cell's class is its column, and each row's is its state if it has one."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    body = []
    for row in table.to_dict("records"):
        cells = "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values())
        body.append(f'<tr class="{html.escape(str(row.get("state", "")))}">{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _finals(comparison: Comparison, metrics: Sequence[str], prefix: str) -> pd.DataFrame:
    rows = []
    for cell in comparison.cells:
        row = {"algorithm": cell.label, "seeds": comparison.seeds(cell).split()[0]}
        rows.append(row | {name.removeprefix(prefix): _mean(comparison, name, cell) for name in metrics})
    return pd.DataFrame(rows)


def _mean(comparison: Comparison, metric: str, cell: Cell) -> str:
    return _estimate(final_table(comparison, metric, cell), cell)


def _arrived(comparison: Comparison, cell: Cell) -> int:
    """Return how many finished runs have reached the threshold."""
    scores, level = comparison.rows(cell, "eval", SCORE), summaries.threshold(comparison)
    return scores.loc[scores["value"] >= level, "seed"].drop_duplicates().isin(comparison.finished(cell)).sum()


def _estimate(table: pd.DataFrame, cell: Cell) -> str:
    own = table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]
    found = finals(own)
    return interval(*found[0]) if len(found) else MISSING


def _words(name: str) -> str:
    return name.replace("_", " ")


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MISSING: "--"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


def _latex(value: object) -> str:
    return "".join(_LATEX.get(character, character) for character in str(value))
