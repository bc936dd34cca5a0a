"""Writes or compares the table of docs/security.md.

    table.py [--write] RESULTS DOCUMENT

RESULTS is a folder with what `outside.py` printed in each place, as PLACE.json. What is wrong with it is said, and is failure: a promise
that is not held, an attempt that was not made, one that gets nothing even without a sandbox and is not among `VAIN`.
"""

import collections
import difflib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
import inside  # noqa: E402

COLUMNS = [
    ("no sandbox, root", ["linux-6.1.none.root", "linux-6.12.none.root"]),
    ("no sandbox, user", ["here.none.user", "linux-6.1.none.user", "linux-6.12.none.user"]),
    ("dyno, root", ["here.dyno.root"]),
    ("dyno, user", ["here.dyno.user"]),
    ("alone, root", ["here.alone.root"]),
    ("alone, user", ["here.alone.user"]),
    ("6.12, root", ["linux-6.12.dyno.root"]),
    ("6.12, user", ["linux-6.12.dyno.user"]),
    ("6.1, root", ["linux-6.1.dyno.root"]),
    ("6.1, user", ["linux-6.1.dyno.user"]),
    ("bwrap, root", ["bwrap.root"]),
    ("bwrap, user", ["bwrap.user"]),
    ("docker", ["docker"]),
]
SIGN = {"held": "held", "broken": "**got**", "not applicable": "–", "fault": "?"}
# What gets nothing on any kernel that was tried, without a sandbox too, as it lacks what is attacked.
VAIN = {}
for line in open(HERE + "/vain"):
    if not line.startswith("#"):
        name, why = line.rstrip("\n").split(" ", 1)
        VAIN[name] = why
BEGIN, END = "<!-- made by .ci/escape -->\n", "<!-- end -->\n"


def main():
    write = "--write" in sys.argv
    results, document = [word for word in sys.argv[1:] if word != "--write"]
    attempts, faults, places = inside.load(), [], {}
    for _, names in COLUMNS:
        for name in names:
            try:
                with open(f"{results}/{name}.json") as file:
                    places[name] = {row["id"]: row for row in json.load(file)}
            except (OSError, ValueError) as error:
                faults.append(f"{name}: no results: {error}")
                places[name] = {}
    known = {}
    for line in open(HERE + "/gaps"):
        if not line.startswith("#"):
            name, when, _ = line.split(" ", 2)
            known[name] = when

    def verdict(name, of):
        verdicts = [places[place].get(name, {"verdict": "fault"})["verdict"] for place in of]
        return next((it for it in ("broken", "held", "not applicable") if it in verdicts), "fault")

    for name in attempts:
        free = [place for title, of in COLUMNS if title.startswith("no sandbox") for place in of]
        if verdict(name, free) != "broken" and name not in VAIN:
            faults.append(f"{name}: it gets nothing even without a sandbox, so it tests nothing")
        for place, rows in places.items():
            row = rows.get(name, {"verdict": "fault", "why": "not made"})
            if row["verdict"] == "fault" and rows:
                faults.append(f"{place}: {name}: {row['why']}")
            if (".dyno." in place or ".alone." in place) and row["verdict"] == "broken":
                when = known.get(name)
                if not when or when in ("root", "user") and not place.endswith(when):
                    faults.append(f"{place}: {name}: got what dynos are kept from: {row['why']}")
    for name in set(known) - set(attempts) | set(VAIN) - set(attempts):
        faults.append(f"{name}: no such attempt")

    made = {}
    for title, of in COLUMNS:
        counts = made[title] = collections.defaultdict(collections.Counter)
        for name, one in attempts.items():
            counts[one.group][verdict(name, of)] += 1
            counts["all"][verdict(name, of)] += 1
    lines = ["| held of | " + " | ".join(title for title, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for group in ["all", *inside.GROUPS]:
        cells = []
        for title, _ in COLUMNS:
            count = made[title][group]
            cells.append(f"{count['held']} of {count['held'] + count['broken']}")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    for group in inside.GROUPS:
        lines += ["", f"**{group}**", "", "| attempt | the rule that it tries to break | " + " | ".join(title for title, _ in COLUMNS) + " |",
                  "|---" * (len(COLUMNS) + 2) + "|"]
        for name, one in attempts.items():
            if one.group == group:
                rule = one.rule.replace("|", "\\|")
                lines.append(f"| `{name.partition('.')[2]}` | {rule} | " + " | ".join(SIGN[verdict(name, of)] for _, of in COLUMNS) + " |")
    table = "\n".join(lines) + "\n"

    with open(document) as file:
        text = file.read()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    new = before + BEGIN + "\n" + table + "\n" + END + after
    if write:
        with open(document, "w") as file:
            file.write(new)
    elif new != text:
        faults.append("docs/security.md is not what was found; `.ci/escape --write` makes it anew:\n"
                      + "".join(difflib.unified_diff(text.splitlines(True), new.splitlines(True), n=0)))
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


main()
