"""The benchmark: every operation of the log beside its limit, in one run. ``python tests/benchmarks/run.py``.

Read ``turns`` (what is written), ``measure`` (how it is timed), ``recording``, ``reading``, ``forking``, ``keeping``
and ``starting`` (one function an operation), ``report`` (the table), ``run`` (the command).
"""
