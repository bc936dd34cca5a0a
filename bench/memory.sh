#!/usr/bin/env bash
# Memory of idle dynos and their server: proportional set size, from /proc/PID/smaps_rollup.
#
#   bench/memory.sh [DYNOS]      (default 20; $DYNO is the binary)
#
# Measured with one dyno, where whatever the processes share is shared by few, and again with DYNOS. An ordinary
# user may not look into a dyno's init, so this needs root.
source "$(dirname "$0")/setup.sh"

dynos=${1:-20}
need awk pgrep
[[ $(id -u) == 0 ]] || give_up "needs root: the memory of a dyno's init is nobody else's to see"
# A copy, so that no process of another server shares its pages.
copy=$(mktemp "${TMPDIR:-/tmp}/dyno-bench-binary.XXXXXX")
trap 'rm -f "$copy"' EXIT
cp "$(find_dyno)" "$copy"
chmod 755 "$copy"
export DYNO=$copy
begin
trap 'end; rm -f "$copy"' EXIT
make_app idle

# field NAME PID: in kB.
field() { awk -v name="$1:" '$1 == name { printf "%d\n", $2 }' "/proc/$2/smaps_rollup"; }
pss() { field Pss "$1"; }

# One attached dyno whose command sleeps; returns when it runs.
start_dyno() {
    local word ready=$work/ready.$1
    mkfifo "$ready"
    "$dyno" run -q -a idle 'echo ready; exec sleep 1000' </dev/null >"$ready" 2>>"$work/dynos.log" &
    started+=($!)
    read -r -t 30 word <"$ready" || give_up "a dyno did not start: $(<"$work/dynos.log")"
    [[ $word == ready ]] || give_up "a dyno said $word"
}

# The median of a field of supervisor + init over all dynos, in kB.
per_dyno() {
    local supervisor init sums=()
    for supervisor in $(pgrep -P "$server"); do
        # One has no dyno yet: it waits for the next.
        init=$(pgrep -P "$supervisor") || continue
        sums+=($(($(field "$1" "$supervisor") + $(field "$1" "$init"))))
    done
    median "${sums[@]}"
}

table
mb() { awk -v kb="$1" 'BEGIN { printf "%.2f MB", kb / 1024 }'; }

start_dyno 1
row 'supervisor + init of an idle dyno, 1 dyno' "$(mb "$(per_dyno Pss)")" '' '' 'at most 1 MB'
row 'of it anonymous, which nobody shares' "$(mb "$(per_dyno Pss_Anon)")" '' '' ''
row 'the server, 1 dyno' "$(mb "$(pss "$server")")" '' '' ''
for ((n = 2; n <= dynos; n++)); do start_dyno "$n"; done
row "supervisor + init of an idle dyno, $dynos dynos" "$(mb "$(per_dyno Pss)")" '' '' 'at most 1 MB'
row "the server, $dynos dynos" "$(mb "$(pss "$server")")" '' '' ''
row "an attached \`dyno run\`" "$(mb "$(pss "${started[0]}")")" '' '' ''
