#!/usr/bin/env bash
# Bytes through a dyno: 1 GB between pipes beside bubblewrap, 64 MB on a terminal beside script(1).
#
#   bench/pipes.sh [RUNS]      (default 9; $DYNO is the binary)
#
# Runs alternate, and the ratio is the median of the ratios of neighbouring runs: above 1, dyno moves more bytes a
# second. The times are of whole processes, start and end included. $BENCH_BYTES is what goes through the pipes
# (1073741824).
source "$(dirname "$0")/setup.sh"

runs=${1:-9}
bytes=${BENCH_BYTES:-1073741824}
need bwrap awk
begin

rate() { awk -v bytes="$1" -v seconds="$2" 'BEGIN { printf "%.0f MB/s", bytes / seconds / 1e6 }'; }

# report WHAT BYTES AIM: what is in ours and theirs, as a row.
report() {
    local ratios=() i
    for i in "${!ours[@]}"; do
        ratios+=("$(awk -v ours="${ours[i]}" -v theirs="${theirs[i]}" 'BEGIN { print theirs / ours }')")
    done
    row "$1" "$(rate "$2" "$(median "${ours[@]}")")" "$(rate "$2" "$(median "${theirs[@]}")")" \
        "$(printf '%.2f' "$(median "${ratios[@]}")")" "$3"
}

make_app pipes
cd "$work/pipes"

# The reader at the end counts, so that a byte that got lost would be noticed.
whole() {
    local count
    count=$(wc -c)
    [[ $count == "$bytes" ]] || give_up "$count bytes of $bytes arrived"
}

table

between_pipes() {
    ours=() theirs=()
    local run
    for ((run = 1; run <= runs; run++)); do
        say "$1: $run of $runs"
        theirs+=("$(seconds "$3")")
        ours+=("$(seconds "$2")")
    done
    report "$1" "$bytes" 'at least 0.8'
}

walled="${bwrap[*]}"
zeros="head -c $bytes /dev/zero"
between_pipes "\`dyno run cat\`, a pipe at both ends / bwrap" \
    "$zeros | $dyno run -q cat | cat >/dev/null" "$zeros | $walled cat | cat >/dev/null"
# A dyno has a session of its own, which the kernel's scheduler may weigh as a group (sched_autogroup).
between_pipes "the same / bwrap --new-session" \
    "$zeros | $dyno run -q cat | cat >/dev/null" "$zeros | $walled --new-session cat | cat >/dev/null"
between_pipes "the same with every byte counted / bwrap" \
    "$zeros | $dyno run -q cat | whole" "$zeros | $walled cat | whole"

# A terminal: both have one of their own between the program and the terminal they are on.
if have script && have python3; then
    lines=$work/pipes/lines
    yes 'a line of text that is as long as those of a log mostly are, give or take a few' \
        2>/dev/null | head -c 67108864 >"$lines" || true
    "$dyno" deploy --no-web 2>>"$work/deploy.log"
    on_terminal=$root/bench/on_terminal.py
    ours=() theirs=()
    for ((run = 1; run <= runs; run++)); do
        say "on a terminal: $run of $runs"
        read -r time count < <("$on_terminal" script -qec "cat $lines" /dev/null)
        theirs+=("$time")
        read -r time our_count < <("$on_terminal" "$dyno" run -q cat lines)
        ours+=("$time")
        [[ $count == "$our_count" ]] || give_up "$our_count bytes on the terminal instead of $count"
    done
    report '64 MB of text on a terminal / script' "$count" 'at least 1'
fi
