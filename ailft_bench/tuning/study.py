"""The study on disk: its folder, its blocks of runs, and Optuna's record of trials."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ailft_bench import durable, provenance
from ailft_bench.errors import UserError
from ailft_bench.seeding import branch_seed
from ailft_bench.tuning import plan as plans
from ailft_bench.tuning.plan import BLOCKS, JOURNAL, STARTUP_TRIALS, Block, Plan

if TYPE_CHECKING:
    import optuna

#: The folder of all studies below the results.
FOLDER = "tuning"
#: Optuna's study has the decisions of its plan under this name.
_DECISIONS = "decisions"


class Study:
    """One study: its plan, its folder, and Optuna's study."""

    def __init__(self, results: Path, plan: Plan, storage: Any) -> None:
        self.plan = plan
        self.folder = folder(results, plan.name)
        self._results = results
        self._storage = storage

    @classmethod
    def open(cls, results: Path, asked: Plan, url: str | None) -> Study:
        """Begin the study, or go on with the one of the same name and plan.

        ``url``: the data base to use instead of the journal, the one that ``asked.storage`` names.

        Raises:
            UserError: the study of this name has another plan, here or in the storage, the folder cannot be written,
                or the storage cannot be opened.
        """
        home = folder(results, asked.name)
        path = home / "study.json"
        with durable.storage_errors(path):
            home.mkdir(parents=True, exist_ok=True)
            begun_here = path.exists()
        if begun_here:  # before the storage: a plan that is refused leaves no journal
            asked = plans.agree(path, asked)
        # The plan is written last: a storage that cannot be opened, or has another plan's trials, must not bind the
        # name to itself.
        study = cls(results, asked, _open_storage(home, url))
        study._refuse_other_trials(begun_here)
        study.plan = plans.agree(path, asked)
        study._prepare()
        return study

    def root(self, block: Block) -> Path:
        """Return the results folder of one block of seeds."""
        return self.folder / block

    def optuna(self, number: int = 0) -> optuna.Study:
        """Return Optuna's study, as it is now.

        ``number`` is that of the next trial to ask for: what is drawn at random depends on it alone, whichever
        process draws it.
        """
        import optuna

        with warnings.catch_warnings():
            # ``group`` keeps trials without parameters (the defaults, where they are outside of the ranges; alpha =
            # 0, which no logarithmic range has) from splitting the space.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=branch_seed(0, "tuning", self.plan.name, "sampler", str(number)),
                n_startup_trials=STARTUP_TRIALS,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        with journal_errors(self.folder / JOURNAL):
            return optuna.load_study(
                study_name=self.plan.name, storage=self._storage, sampler=sampler, pruner=optuna.pruners.NopPruner()
            )

    @property
    def dashboard_command(self) -> str:
        """The command that shows the study in a browser."""
        where = self.folder / JOURNAL if self.plan.storage == JOURNAL else self.plan.storage
        return f"optuna-dashboard {where}"

    @property
    def _decisions(self) -> dict[str, Any]:
        """The plan's decisions, but for the storage: one data base has several URLs."""
        return {key: value for key, value in plans.decisions(self.plan).items() if key != "--storage"}

    def _refuse_other_trials(self, begun_here: bool) -> None:
        """Look whose trials a storage has: Optuna finds a study by its name alone, and a data base serves many folders.

        Args:
            begun_here: whether this folder has the study's plan. It vouches for trials of before the storage had one.

        Raises:
            UserError: the trials are those of another plan, or of nobody knows which.
        """
        try:
            known = self.optuna()
        except KeyError:
            return
        before = known.user_attrs.get(_DECISIONS)
        if before is not None:
            differences = plans.differing(before, self._decisions)
        else:
            differences = "which ones, it does not say" if known.get_trials(deepcopy=False) and not begun_here else ""
        if differences:
            journal = self.plan.storage == JOURNAL
            where = self.folder / JOURNAL if journal else f"--storage {self.plan.storage}"
            delete = f"rm {where}" if journal else f"optuna delete-study --study-name {self.plan.name} {where}"
            raise UserError(
                f"{where}: the study {self.plan.name!r} there was begun from another results folder, or one that was "
                f"deleted, with other decisions ({differences}); go on with it from there; or begin another one: "
                f"--study NAME; or delete it: {delete}"
            )

    def _prepare(self) -> None:
        """Make Optuna's study and the blocks' folders, all of which use the demonstrations of the results folder."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = self.optuna()
        except KeyError:
            study = optuna.create_study(
                study_name=self.plan.name,
                storage=self._storage,
                directions=self.plan.objective.directions,
                load_if_exists=True,
            )
        if _DECISIONS not in study.user_attrs:
            study.set_user_attr(_DECISIONS, self._decisions)
        demos = self._results / "demos"
        demos.mkdir(exist_ok=True)
        for block in BLOCKS:
            self.root(block).mkdir(exist_ok=True)
            # Without symbolic links each block makes demonstrations of its own, the same ones.
            with suppress(OSError):
                (self.root(block) / "demos").symlink_to(Path("..", "..", "..", "demos"), target_is_directory=True)


def folder(results: Path, name: str) -> Path:
    """Return where the study ``name`` lives."""
    return results / FOLDER / name


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Turn a damaged journal into a message that names the line."""
    try:
        yield
    except ValueError as error:
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
            try:
                json.loads(line)
            except ValueError:
                raise UserError(
                    f"{path}, line {number}: not valid JSON: the file system lost a write; delete the line and run "
                    "the same command again (finished runs are not run again)"
                ) from error
        raise


def _open_storage(home: Path, url: str | None) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if url is None:
        path = home / JOURNAL
        with durable.storage_errors(path), journal_errors(path):
            return optuna.storages.JournalStorage(JournalFileBackend(str(path.absolute())))
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # of SQLAlchemy, of a driver that is not there, of the data base
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--storage {provenance.masked(url)}: cannot be opened: {reason}; expected a URL of SQLAlchemy, such as "
            "postgresql+psycopg://user:password@host/database, and its driver installed"
        ) from error
