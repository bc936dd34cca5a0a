#!/usr/bin/env bash
# Lines of output a second into the log, of a program that nobody is attached to: `seq 2000000` in a detached dyno, beside
# docker's json-file log and `foreman start`.
#
#   bench/logs.sh [RUNS]      (default 7; $DYNO is the binary)
#
# From the command line until the last line is in the log and the program's end is known, start included. Runs alternate, and
# the ratio is the median of the ratios of neighbouring runs: above 1, dyno writes more lines a second. Every line is
# looked for in dyno's log and docker's; what foreman loses is said. $BENCH_LINES is how many lines there are (2000000). foreman gets a tenth of them, or it would take
# all the time there is, and its program waits a second at first, which is taken off again: it blocks for ever on its
# own pipe if a program has filled that before it reads.
#
# Docker is measured as root, and with a daemon of its own, which ends with the benchmark.
source "$(dirname "$0")/setup.sh"

runs=${1:-7}
lines=${BENCH_LINES:-2000000}
need awk seq
daemon=
begin
trap 'end_docker; end' EXIT
make_app logs
cd "$work/logs"

# in_order FILE LINES COMMAND: whether what COMMAND makes of FILE are the numbers to LINES.
in_order() {
    [[ -f $1 ]] || give_up "there is no log $1"
    eval "$3" <"$1" | cmp -s - <(seq "$2") || give_up "not every line is in $1"
}

# rates LINES SECONDS...: million lines a second, of each.
rates() { awk 'BEGIN { for (i = 2; i < ARGC; i++) print ARGV[1] / ARGV[i] / 1e6 }' "$@"; }

run_dyno() {
    "$dyno" run:detached -q --wait "seq $1" >/dev/null 2>>"$work/dyno.log"
}

whole_dyno() {
    cat "$DYNO_HOME"/logs/*/*.log >"$work/text"
    in_order "$work/text" "$1" "grep -a ' app.run\.$2\]: ' | cut -d ' ' -f 3"
    rm "$work/text"
}

# A file system for a container with seq and what it needs, and a daemon with a state of its own.
begin_docker() {
    [[ $(id -u) == 0 ]] || { say "not root: docker is left out"; return 1; }
    have dockerd && have docker && have ldd || return 1
    local root=$work/root file deadline=$((SECONDS + 30))
    export DOCKER_HOST=unix://$work/docker/sock
    mkdir -p "$work/docker" "$root/bin"
    cp "$(command -v seq)" "$root/bin/"
    for file in $(ldd "$(command -v seq)" | grep -o '/[^ ]*'); do
        mkdir -p "$root${file%/*}"
        cp -L "$file" "$root$file"
    done
    dockerd --data-root "$work/docker/data" --exec-root "$work/docker/exec" --pidfile "$work/docker/pid" \
        --host "$DOCKER_HOST" --cgroup-parent "dyno-bench-$$" --bridge none --iptables=false --ip6tables=false \
        --ip-forward=false --ip-masq=false >"$work/docker.log" 2>&1 &
    daemon=$!
    until docker info >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null && ((SECONDS < deadline)) || { say "docker does not run here: $(tail -n 1 "$work/docker.log")"; return 1; }
        sleep 0.1
    done
    tar -C "$root" -c . | docker import - bench-seq >/dev/null
}

end_docker() {
    [[ -n $daemon ]] || return 0
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    daemon=
    find /sys/fs/cgroup -maxdepth 2 -name "dyno-bench-$$" -exec rmdir {} + 2>/dev/null || true
}

run_docker() {
    docker run --name bench --network none --log-driver json-file -d bench-seq /bin/seq "$1" >/dev/null
    [[ $(docker wait bench) == 0 ]]
}

# The daemon may still be writing when it says that the container has ended.
whole_docker() {
    local log
    log=$(docker inspect --format '{{.LogPath}}' bench)
    in_order "$log" "$1" "sed 's/^{\"log\":\"\([0-9]*\)\\\\n\".*/\1/'"
    docker rm bench >/dev/null
}

run_foreman() {
    echo "web: sleep 1; seq $1" >"$work/Procfile"
    foreman start -f "$work/Procfile" >"$work/foreman.log"
}

# It leaves when its program does, with whatever it has read by then.
whole_foreman() {
    local there
    there=$(grep -c '| [0-9]*$' "$work/foreman.log")
    ((there == $1)) || say "foreman lost $(($1 - there)) of $1 lines"
}

# beside PEER LINES WHAT AIM [WAITS]: both in turns. WAITS is how many seconds the peer's program does nothing.
number=0
beside() {
    local ours=() theirs=() ratios=() peer=$1 count=$2 run time
    for ((run = 1; run <= runs; run++)); do
        say "$peer: $run of $runs"
        time=$(seconds "run_$peer $count")
        theirs+=("$(rates "$count" "$(awk -v time="$time" -v waits="${5:-0}" 'BEGIN { print time - waits }')")")
        "whole_$peer" "$count"
        ours+=("$(rates "$lines" "$(seconds "run_dyno $lines")")")
        whole_dyno "$lines" $((++number))
        ratios+=("$(awk -v ours="${ours[-1]}" -v theirs="${theirs[-1]}" 'BEGIN { print ours / theirs }')")
    done
    row "\`run:detached seq $lines\` / $3" "$(printf '%.1f' "$(median "${ours[@]}")") M lines/s" \
        "$(printf '%.3f' "$(median "${theirs[@]}")") M lines/s" "$(printf '%.1f' "$(median "${ratios[@]}")")" "$4"
}

table
if begin_docker; then
    beside docker "$lines" "docker's json-file" '5 M lines/s'
fi
if have foreman; then
    beside foreman $((lines / 10)) 'foreman, of a tenth of the lines' '5 M lines/s' 1
fi
