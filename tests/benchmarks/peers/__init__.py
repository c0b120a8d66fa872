"""The log beside what a user would pick instead. ``python tests/benchmarks/peers/run.py``.

Read ``interface`` (what a system must do to take part), ``material`` (what is written), one file a system (``ours``,
``plain``, ``sqlite_wal``, ``openai_agents``, ``langgraph_saver``, ``strands_files``, ``google_adk``), ``systems``
(which of them are installed), ``setting`` (what every operation is given), then the operations (``appending``,
``restoring``, ``forking``, ``listing``, ``footprint``, ``contending``, ``importing``), ``figures`` (the table) and
``run`` (the command).

The other systems are used as their documentation says, with their connections kept open where their interface does so,
and each gets what it needs of a turn as its own kind of item. Nothing here is imported by the package.
"""
