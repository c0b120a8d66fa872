"""``session-log``: the command for people who grep, tail, look and resume.

A command parses, calls one public function of the library, prints, returns a code. Read in this order: _exits (what a
code means), _output (what is printed where), _options (what commands have in common), _app (the group), then a file
for each command. Needs the extra ``[cli]``.
"""

import sys


def main() -> None:
    """Run the command with the arguments of the process, and end the process with its code."""
    try:
        import click  # noqa: F401  looked for here, so that its absence has an answer
    except ModuleNotFoundError:
        sys.exit("session-log needs click and rich: pip install 'session-log[cli]'")
    from session_log.cli._app import run

    sys.exit(run(sys.argv[1:]))
