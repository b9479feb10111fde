"""Runs the command line in this process, and checks what it prints."""

from tfvl.cli.app import main


def fails(capsys, *arguments, code=2):
    """Runs the command, expects that exit code and a single line on stderr, and returns the line."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tfvl: ")
    return line


def scores(output: str) -> dict[str, float]:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return {label: float(score) for label, score in cells}
