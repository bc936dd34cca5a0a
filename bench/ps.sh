#!/usr/bin/env bash
# Listing dynos: 1,000 alive and 10,000 that have ended, beside one alive and none ended.
#
#   bench/ps.sh [RUNS]      (default 100; $DYNO is the binary)
#
# The rows are written into the server's state: what a list costs depends on them, not on processes behind them.
source "$(dirname "$0")/setup.sh"

runs=${1:-100}
need hyperfine python3
export DYNO_KEPT_DYNOS=20000 DYNO_MAX_DYNOS=10000 DYNO_MAX_ONE_OFFS=10000
begin

make_app many
cd "$work/many"
"$dyno" run:detached -q sleep 100000 >"$work/first"

# The median in milliseconds.
measure() {
    hyperfine -N --warmup 5 --runs "$runs" --export-csv "$work/result.csv" "$1" >"$work/hyperfine.log" 2>&1 \
        || give_up "$(<"$work/hyperfine.log")"
    awk -F , 'NR == 2 { printf "%.1f ms", $4 * 1000 }' "$work/result.csv"
}

few=$(measure "$dyno ps")

python3 - "$DYNO_HOME/state.db" <<'PYTHON'
import sqlite3, sys, time, uuid

state = sqlite3.connect(sys.argv[1])
state.row_factory = sqlite3.Row
first = dict(state.execute("SELECT * FROM dynos").fetchone())
now = int(time.time() * 1e6)
for number in range(2, 11_001):
    ended = number <= 10_001
    row = first | {
        "id": str(uuid.uuid4()),
        "number": number,
        "command": f"bin/job --number {number} --with some arguments",
        "state": "complete" if ended else "up",
        "ended_at": now + number if ended else None,
        "exit_status": 0 if ended else None,
    }
    columns = ", ".join(row)
    state.execute(f"INSERT INTO dynos ({columns}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
state.commit()
PYTHON

[[ $("$dyno" ps | grep -c '^run\.') == 1000 ]] || give_up "not 1,000 alive"
many=$(measure "$dyno ps")
one=$(measure "$dyno ps run.10500")
json=$(measure "$dyno ps --json")
all=$(measure "$dyno ps --all")
usage=$(measure "$dyno usage")
# Processes that are there end with the server's state; the one dyno is told to.
"$dyno" ps:stop "$(<"$work/first")" 2>/dev/null

table
row "\`dyno ps\`, 1,000 alive and 10,000 ended / one alive" "$many" "$few" '' 'at most 20 ms'
row "\`dyno ps run.10500\` of them" "$one" '' '' ''
row "\`dyno ps --json\` of them" "$json" '' '' ''
row "\`dyno ps --all\`: 11,000 lines" "$all" '' '' ''
row "\`dyno usage\` with them" "$usage" '' '' ''
