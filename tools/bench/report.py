"""What several benchmarks print in the same way: the processor, the memory of a process, and Markdown tables."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# The instruction sets that decide how fast products of matrices are.
SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
SHARED = re.compile(r"Pss:\s+(\d+)")


def processor() -> str:
    """Names the processor, how many of its cores this process may use, and which of `SETS` it has."""
    facts = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"model name\s*: (.+)", facts) or [platform.machine()]
    flags = facts.partition("flags")[2].partition("\n")[0].split()
    cores = f"{len(os.sched_getaffinity(0))} cores"
    return ", ".join([names[0], cores, *(name for name in SETS if name in flags)])


def memory(process: int) -> int:
    """Returns the bytes that a process holds, by its id; pages that it shares with others count in part."""
    return int(SHARED.search(Path(f"/proc/{process}/smaps_rollup").read_text())[1]) * 1024


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; the names of the columns are its first row."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, ("---",) * len(columns), *rows))
