import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.demos.episode import build_episode, save_episode
from ailft_bench.figures.captions import curve_caption
from ailft_bench.figures.comparison import comparisons
from ailft_bench.report import write_report
from ailft_bench.report.videos import videos
from ailft_bench.results import load_results
from ailft_bench.store import RunDirectory, runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
# Run in the page by the test alone: the report itself has no script.
PROBE = """<script>
addEventListener('DOMContentLoaded', () => { for (const image of document.images) image.loading = 'eager'; });
addEventListener('load', () => {
  const shown = [...document.images].filter(image => image.complete && image.naturalWidth > 0);
  document.title = JSON.stringify([shown.length, document.documentElement.scrollWidth - innerWidth,
    getComputedStyle(document.body).backgroundColor]);
});</script>"""


def run(algorithm, seed, rate, **changes):
    steps = range(0, 500, 100)
    return SyntheticRun(
        algorithm, seed, {s: evaluation(rate * s / 100, cost=3) for s in steps}, {s: 2.0 for s in steps if s}, **changes
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of two algorithms, one seed failed and one missing, whose checkpoints are gone."""
    folder = tmp_path_factory.mktemp("report")
    runs = [run("conservative", seed, rate) for seed, rate in enumerate([0.5, 0.7, 0.9])]
    runs += [run("vmail", 0, 0.3), run("vmail", 1, 0.1, state="failed")]
    results = write_all(folder / "results", runs)
    return write_report(load_results(results), folder / "new" / "kitchen.html", results)


def test_page_is_one_file_that_needs_nothing_else(page):
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "<script" not in text
    assert "url(" not in text
    assert [path.name for path in page.parent.iterdir()] == ["kitchen.html"]


def test_page_says_what_is_missing_before_any_number(page):
    text = page.read_text()
    assert "2 of 6 runs are not finished (1 failed, 1 missing)" in text
    assert text.index("not finished") < text.index("<table>")
    assert "<td>1/3</td>" in text
    assert "the loss is not finite" in text
    assert "its checkpoint is gone" in text
    assert "Intervals are of 3 seeds or more" in text


def test_smoke_runs_are_stamped_and_names_are_escaped(tmp_path):
    runs = [run("conservative", seed, 1.0, scale="smoke") for seed in (0, 1)]
    runs += [run("vmail", 1, 0.0, scale="smoke", state="failed")]
    results = write_all(tmp_path / "results", runs)
    loaded = load_results(results)
    loaded.runs.loc[loaded.runs["state"] == "failed", "reason"] = "bad <b>&"
    text = write_report(loaded, tmp_path / "page.html", results, with_videos=False).read_text()
    assert "SMOKE: plumbing only, not a result" in text
    assert "bad &lt;b&gt;&amp;" in text


def test_page_warns_of_lines_that_are_of_two_environments_and_of_code_that_changed_half_way(tmp_path):
    other = {"id": "ailft/Push-v0", "version": 1, "start_noise": 0.1}
    runs = [run("conservative", 0, 1.0), run("vmail", 0, 1.0, environment=other, env_steps=300)]
    results = write_all(tmp_path / "results", runs)
    directory = RunDirectory(runs[0].spec.directory(results))
    for version, checkpoint in (("a", None), ("b", "000001-100")):
        line = {"checkpoint": checkpoint, "provenance": {"source_sha256": version}}
        with open(directory.path / "attempts.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
    loaded = load_results(results)
    text = write_report(loaded, tmp_path / "page.html", results, with_videos=False).read_text()
    assert "not comparable: they differ in env_steps (300 or 400), environment.start_noise (0.1 or its default)" in text
    (comparison,) = comparisons(loaded)
    assert "Not comparable: the lines differ in env_steps (300 or 400)," in curve_caption(comparison)
    assert f"with another version of the code: conservative/{directory.path.name}." in text


def test_page_has_the_command_of_a_run_under_each_of_its_labels(tmp_path):
    one = run("conservative", 0, 1.0)
    other = run("alpha_10", 0, 1.0, method="conservative")
    results = write_all(tmp_path / "results", [one, other])
    record = other.spec.directory(results) / "run.json"
    record.write_text(record.read_text().replace(other.run_id, one.run_id))
    text = write_report(load_results(results), tmp_path / "page.html", results, with_videos=False).read_text()
    assert "ailft-bench run kitchen --scale cpu --seeds 0, --algorithms alpha_10,conservative" in text


def test_videos_of_runs_whose_environment_cannot_be_imported_are_notes(tmp_path):
    env_id, demonstrations = "nowhere_module:My-v0", tmp_path / "demonstrations"
    demonstrations.mkdir()
    images, action = np.zeros((2, 64, 64, 3)), np.zeros((1, 2))
    save_episode(demonstrations / "000.npz", build_episode(images, action, [0, 1], None, None, {"env_id": env_id}))
    source = {"source": str(demonstrations), "episodes": 1, "seed": 0, "checksum": "c"}
    environment = {"id": env_id, "version": 1}
    results = write_all(tmp_path / "results", [run("vmail", 0, 1.0, environment=environment, demonstrations=source)])
    (directory,) = runs(results)
    directory.save_checkpoint(400, lambda folder: None)
    (comparison,) = comparisons(load_results(results))
    shown = list(videos(comparison, results))
    assert [video.content for video in shown] == [None, None]
    assert all("cannot import nowhere_module" in video.note for video in shown)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (500, "dark")])
def test_browser_opens_the_page_without_errors_and_shows_every_picture(page, tmp_path, width, scheme):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</head>", f"{PROBE}</head>"))
    flags = [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    flags.append(f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}")
    opened = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in opened.stderr
    title = re.search(r"<title>\[(\d+),(-?\d+),\"(.*)\"\]</title>", opened.stdout)
    images, overflow, background = int(title[1]), int(title[2]), title[3]
    assert images == page.read_text().count("<img ") >= 10
    assert overflow <= 0
    assert background == ("rgb(18, 22, 28)" if scheme == "dark" else "rgb(251, 251, 252)")
