#!/usr/bin/env python3
"""Line and branch coverage of engine/ and ext/, as gcov counted it.

    test/cov.py build/cov

A module of ext/ is compiled twice, for the library and for the unit tests; a line
counts as run when it ran in either. Prints a row per file, the lines that never ran
with -v, and the totals.
"""
import json
import os
import subprocess
import sys


def records(build):
    """Yields gcov's record of every source file of every object that ran."""
    for folder, _, names in os.walk(build):
        for name in names:
            if not name.endswith(".gcda"):
                continue
            path = os.path.join(folder, name)
            run = subprocess.run(["gcov", "--json-format", "--stdout", "-b", path],
                                 capture_output=True, text=True, check=True)
            for line in run.stdout.splitlines():
                if line.startswith("{"):
                    yield from json.loads(line)["files"]


def main():
    lines = {}     # file -> line number -> how often
    branches = {}  # file -> (line number, place in it) -> how often
    for record in records(sys.argv[1]):
        name = os.path.normpath(record["file"])
        if not name.startswith(("engine/", "ext/")):
            continue
        of_lines = lines.setdefault(name, {})
        of_branches = branches.setdefault(name, {})
        for line in record["lines"]:
            number = line["line_number"]
            of_lines[number] = of_lines.get(number, 0) + line["count"]
            for place, branch in enumerate(line["branches"]):
                key = (number, place)
                of_branches[key] = of_branches.get(key, 0) + branch["count"]

    def share(counts):
        return 100.0 * sum(1 for n in counts if n) / len(counts) if counts else 100.0

    all_lines, all_branches = [], []
    print(f"{'file':40} {'lines':>7} {'branches':>9}")
    for name in sorted(lines):
        of_lines = list(lines[name].values())
        of_branches = list(branches[name].values())
        all_lines += of_lines
        all_branches += of_branches
        print(f"{name:40} {share(of_lines):6.1f}% {share(of_branches):8.1f}%")
        if "-v" in sys.argv:
            print("    never:", *sorted(n for n, c in lines[name].items() if not c))
    print(f"{'all':40} {share(all_lines):6.1f}% {share(all_branches):8.1f}%  "
          f"({len(all_lines)} lines, {len(all_branches)} branches)")


main()
