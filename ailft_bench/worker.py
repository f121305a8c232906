"""The worker: works on one run directory until the run is done, fails, or is asked to stop.

``python -m ailft_bench.worker RUN_DIRECTORY``; start and resume are the same command. A signal to stop
(``signals.STOP``) saves a checkpoint at the next step and leaves. Exit codes: 0 done, 1 failed
(``failed.json`` says why), 75 stopped or held by another worker: run it again to go on.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from ailft_bench import live, machine, signals
from ailft_bench.demos.collection import Demonstrations, provide
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory
from ailft_bench.store.lease import LeaseHeldError, LeaseLostError

EXIT_DONE, EXIT_FAILED, EXIT_TRY_AGAIN = 0, 1, 75
_TAIL_LINES = 20


def run_cell(path: Path) -> bool:
    """Work on the run at ``path``; return whether it is done, False if it was asked to stop before.

    Raises:
        LeaseHeldError: another live worker is on this run.
        LeaseLostError: another worker took the run over.
        Exception: whatever went wrong; the run's ``failed.json`` says it too.
    """
    run = RunDirectory(path.absolute())
    if run.state == "done":
        return True
    with run.lease() as alone, signals.noted() as received:
        try:
            if not alone:
                run.detach_replay()
            return _work(run, lambda: bool(received))
        except LeaseLostError:
            raise
        except Exception as error:
            tail = "".join(traceback.format_exc().splitlines(keepends=True)[-_TAIL_LINES:])
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            run.fail(reason, tail)
            raise


def _work(run: RunDirectory, should_stop: Callable[[], bool]) -> bool:
    import torch

    from ailft_bench import precision, pretraining
    from ailft_bench.training import Trainer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen, compiled = precision.of_run(run, device), bool(os.environ.get(machine.COMPILE))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pretrained = None if compiled else pretraining.shared_file(_results(run), run.spec, device, chosen)
    shared = pretrained.stem if pretrained and pretrained.exists() and run.latest_checkpoint() is None else None
    run.start_attempt(precision=chosen, compiled=compiled, shared_pretraining=shared)
    torch.set_flush_denormal(True)
    if device == "cuda":  # a run that is continued must be the run that was not interrupted
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
    trainer = Trainer(run, _demonstrations(run), device, chosen, pretrained)
    if compiled:
        trainer.agent.compile()
    with live.following(run):
        done = trainer.train(should_stop)
    if not done:
        return False
    trainer.save()
    run.finish()
    run.tidy_up()
    return True


def _demonstrations(run: RunDirectory) -> Demonstrations:
    spec = run.spec
    given = {key: value for key, value in spec.demonstrations.items() if key != "checksum"}
    cache = _results(run) / "demos"
    demonstrations = provide(spec.environment["id"], spec.environment_kwargs, cache=cache, **given)
    if demonstrations.checksum != spec.demonstrations["checksum"]:
        raise UserError(
            f"{demonstrations.directory}: demonstrations {demonstrations.checksum}, but this run began with "
            f"{spec.demonstrations['checksum']}: they, the expert or mujoco changed since; start the suite anew"
        )
    return demonstrations


def _results(run: RunDirectory) -> Path:
    return run.path.parents[3]


def main() -> int:
    """Run the directory named by the command line."""
    try:
        return EXIT_DONE if run_cell(Path(sys.argv[1])) else EXIT_TRY_AGAIN
    except (LeaseHeldError, LeaseLostError) as error:
        print(error, file=sys.stderr)
        return EXIT_TRY_AGAIN
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
