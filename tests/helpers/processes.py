"""Which processes run: for tests of programs that start others."""

from __future__ import annotations

import subprocess


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run, without the one that lists them here.

    A child counts once it has executed its program: until then it has its parent's command line, and its parent may be
    suspended (`vfork`), so that stopping the child would stop both.
    """
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    programs = {int(row[0]): row[3] for row in rows}
    return [
        int(child)
        for child, parent, state, program in rows
        if int(parent) == pid and not state.startswith("Z") and program not in (programs.get(pid), " ".join(command))
    ]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
