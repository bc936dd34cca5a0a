#!/usr/bin/env bash
# What a start costs while much else goes on, and what memory that takes: idle connections, idle dynos, attached sessions that echo,
# floods of output, and readers who take their time.
#
#   bench/load.sh [CONNECTIONS [DYNOS [SESSIONS]]]      (default 5000, 1000, 200; $DYNO is the binary)
#
# Each row's figure is the median of `dyno run true`, 60 times, and its ratio that to the same before there was any load. Memory is
# proportional set size, but for floods, where it is the most that the process ever had. Needs root for the memory of other processes.
source "$(dirname "$0")/setup.sh"

connections=${1:-5000}
dynos=${2:-1000}
sessions=${3:-200}
need awk hyperfine pgrep python3 xargs
[[ $(id -u) == 0 ]] || give_up "needs root: the memory of a dyno's init is nobody else's to see"
export DYNO_MAX_ONE_OFFS=$((dynos + sessions + 50)) DYNO_MAX_DYNOS=$((dynos + sessions + 50))
# 127.0.0.1 alone: nobody else is meant to be a client.
router=${BENCH_ROUTER_PORT:-15100} api=${BENCH_API_PORT:-15101} meeting=${BENCH_RENDEZVOUS_PORT:-15102}
begin --router "127.0.0.1:$router" --listen "127.0.0.1:$api" --rendezvous "127.0.0.1:$meeting"
tail=
clean() {
    local supervisor
    # One that is stopped would not end.
    [[ ! $tail ]] || kill -CONT "$tail" 2>/dev/null || true
    for supervisor in $(pgrep -P "$server"); do kill -KILL "$supervisor" 2>/dev/null || true; done
    end
}
trap clean EXIT
make_app small
cd "$work/small"

mb() { awk -v kb="$1" 'BEGIN { printf "%.1f MB", kb / 1024 }'; }
pss_of() {
    local pid
    for pid in "$@"; do cat "/proc/$pid/smaps_rollup" 2>/dev/null || true; done | awk '$1 == "Pss:" { sum += $2 } END { print sum + 0 }'
}
# One that has just ended had nothing.
peak_of() { awk '$1 == "VmHWM:" { peak = $2 } END { print peak + 0 }' "/proc/$1/status" 2>/dev/null || echo 0; }

# The median of a start in milliseconds.
start() {
    hyperfine -N --warmup 5 --runs 60 --export-csv "$work/starts.csv" "$dyno run true" >"$work/hyperfine.log" 2>&1 \
        || give_up "$(<"$work/hyperfine.log")"
    awk -F , 'NR == 2 { print $4 * 1000 }' "$work/starts.csv"
}

# start_row WHAT: a start now, beside the quiet one.
start_row() {
    local now
    now=$(start)
    row "\`dyno run true\` with $1 / without" "$(printf '%.1f ms' "$now")" "$(printf '%.1f ms' "$quiet")" \
        "$(awk -v a="$now" -v b="$quiet" 'BEGIN { printf "%.2f", a / b }')" 'at most 2'
}

table
quiet=$(start)
say "quiet: $quiet ms"

# hold PORT WHAT: holds the connections until `let_go`.
hold() {
    coproc HOLD { exec python3 "$root/bench/load.py" hold 127.0.0.1 "$1" "$connections"; }
    read -r taken <&"${HOLD[0]}"
    say "$2: $taken of $connections connections were taken"
}
let_go() {
    local open pid=$HOLD_PID out=${HOLD[0]}
    exec {HOLD[1]}>&-
    read -r open <&"$out" || true
    wait "$pid" || true
    say "$open were open in the end"
}
for place in "router $router" "API $api" "rendezvous $meeting"; do
    before=$(pss_of "$server")
    hold "${place##* }" "${place%% *}"
    start_row "$connections idle connections at the ${place%% *}"
    row "the server, by $connections connections at the ${place%% *}" "$(mb $(($(pss_of "$server") - before))) more" '' '' ''
    let_go
done

say "$sessions sessions that echo"
coproc ECHO { exec python3 "$root/bench/load.py" echo "$sessions" 20 "$dyno" run -q cat; }
pid=$ECHO_PID out=${ECHO[0]} into=${ECHO[1]}
read -r _ <&"$out"
echo >&"$into"
start_row "$sessions sessions that echo 5 lines a second each"
row "the server, $sessions sessions" "$(mb "$(pss_of "$server")")" '' '' ''
read -r median p99 lines <&"$out" || give_up "the sessions failed"
wait "$pid" || give_up "the sessions failed"
row "a line and its echo, of $lines in $sessions sessions: median" "$((median)) µs" '' '' ''
row "the same: p99" "$((p99)) µs" '' '' ''

say "floods"
peak_before=$(peak_of "$server")
for _ in 1 2; do "$dyno" run:detached -q 'exec yes "a line of text that is as long as those of a log mostly are"' >>"$work/names"; done
"$dyno" run -q 'exec cat /dev/zero' >/dev/null &
started+=($!)
# Readers who take nothing: of the log, and of a dyno.
"$dyno" logs -t >"$work/fifo" 2>/dev/null &
tail=$!
started+=("$tail")
"$dyno" run -q 'exec cat /dev/zero' | sleep 100000 &
started+=($!)
sleep 3
kill -STOP "$tail"
sleep 5
start_row 'two dynos that flood the log, one that floods a pipe, and readers that take nothing'
row 'the most that the server had' "$(mb "$(peak_of "$server")")" '' '' 'at most 64 MB'
most=0
for supervisor in $(pgrep -P "$server"); do
    peak=$(peak_of "$supervisor")
    ((peak <= most)) || most=$peak
done
row 'the most that one of their supervisors had' "$(mb "$most")" '' '' 'at most 32 MB'
say "the server had $peak_before kB at most before"
kill -CONT "$tail"
while read -r name; do "$dyno" ps:stop "$name" >/dev/null; done <"$work/names"

say "$dynos dynos"
seq "$dynos" | xargs -P 4 -I{} "$dyno" run:detached -q 'exec sleep 100000' >>"$work/idle"
start_row "$dynos idle dynos"
row "the server, $dynos dynos" "$(mb "$(pss_of "$server")")" '' '' 'under 10 MB'
