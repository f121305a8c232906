"""Tuning: Optuna over settings of one algorithm, on the cells, store and executors of ``run``.

A study is a folder, ``results/tuning/<study>/``, that no command for results looks into::

    study.json    what was decided before the first run: space, budget, objective, seeds; never changed
    journal.log   Optuna's storage (unless ``--storage`` names a data base)
    leases/       which trial is worked on by a live process
    choice.json   what was chosen on the second block of seeds, written once, before the third is touched
    tune/ select/ report/   the runs on the first, second and third block of seeds: each a results folder of its
                  own, which ``status``, ``plot``, ``cancel`` and the others read with ``--results``
    figures/      sensitivity, history, slices, importance, map, Pareto front
"""
