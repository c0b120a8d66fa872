"""Tables of numbers."""

from collections.abc import Iterator, Sequence

from session_log.cli._output import Output


def table(out: Output, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table; all but its first column, and texts in the last, are numbers, and stand to the right."""
    cells = [names, *rows]
    text_last = names[-1] == "kind"
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    for number, row in enumerate(cells):
        aligned = [
            cell.ljust(width) if at == 0 or (text_last and at == len(row) - 1) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(aligned).rstrip()
        yield line if number else out.style(line, bold=True)
