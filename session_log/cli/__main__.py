"""``python -m session_log.cli``."""

from session_log.cli import main

if __name__ == "__main__":
    main()
