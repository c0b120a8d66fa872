"""``python -m session_log.cli``."""

from session_log.cli import main

main()
