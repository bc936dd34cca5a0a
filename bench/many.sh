#!/usr/bin/env bash
# Many idle dynos: how long until they are up, and what memory they and their server take together.
#
#   bench/many.sh [DYNOS]      (default 1000; $DYNO is the binary)
#
# The dynos are detached and sleep. Memory is proportional set size, from /proc/PID/smaps_rollup, with the command's own
# processes left out: an idle `sleep` is not ours. An ordinary user may not look into a dyno's init, so this needs root.
source "$(dirname "$0")/setup.sh"

dynos=${1:-1000}
need awk pgrep xargs
[[ $(id -u) == 0 ]] || give_up "needs root: the memory of a dyno's init is nobody else's to see"
export DYNO_MAX_ONE_OFFS=$((dynos + 10)) DYNO_MAX_DYNOS=$((dynos + 10))
# A copy, so that no process of another server shares its pages.
copy=$(mktemp "${TMPDIR:-/tmp}/dyno-bench-binary.XXXXXX")
trap 'rm -f "$copy"' EXIT
cp "$(find_dyno)" "$copy"
chmod 755 "$copy"
export DYNO=$copy
begin
# Each dyno ends with its supervisor; the supervisors are the server's children.
clean() {
    local supervisor
    for supervisor in $(pgrep -P "$server"); do kill -KILL "$supervisor" 2>/dev/null || true; done
    end
    rm -f "$copy"
}
trap clean EXIT
make_app idle

# PSS of these processes in kB; one that has just ended counts nothing.
pss_of() {
    local pid
    for pid in "$@"; do cat "/proc/$pid/smaps_rollup" 2>/dev/null || true; done |
        awk '$1 == "Pss:" { sum += $2 } END { printf "%d\n", sum }'
}
mb() { awk -v kb="$1" 'BEGIN { printf "%.1f MB", kb / 1024 }'; }

start() { seq "$1" | xargs -P 4 -I{} "$dyno" run:detached -q -a idle 'exec sleep 100000' >>"$work/names"; }

table
first=200
((dynos >= first)) || first=$dynos
took_first=$(seconds "start $first")
row "until $first detached dynos are up, 4 commands at a time" "$took_first s" '' '' ''
row "the server, $first dynos" "$(mb "$(pss_of "$server")")" '' '' 'under 10 MB'
if ((dynos > first)); then
    took_rest=$(seconds "start $((dynos - first))")
    took=$(awk -v a="$took_first" -v b="$took_rest" 'BEGIN { printf "%.2f", a + b }')
    row "until $dynos are up" "$took s" '' '' ''
    row "the server, $dynos dynos" "$(mb "$(pss_of "$server")")" '' '' ''
fi
(($(sort -u "$work/names" | wc -l) == dynos)) || give_up "not every dyno has a name of its own"
mapfile -t supervisors < <(pgrep -P "$server")
mapfile -t inits < <(pgrep -P "$(IFS=,; echo "${supervisors[*]}")")
((${#inits[@]} == dynos)) || give_up "${#inits[@]} of $dynos dynos are alive"
all=$(pss_of "$server" "${supervisors[@]}" "${inits[@]}")
row "$dynos dynos with their server" "$(mb "$all")" '' '' ''
row 'of it a dyno' "$(awk -v kb="$all" -v n="$dynos" 'BEGIN { printf "%.2f MB", kb / 1024 / n }')" '' '' ''
