# shellcheck shell=bash
# What every benchmark needs: the binary, a server of its own, and its end. Sourced, not run.
#
# Sets $dyno (the binary), $work (a temporary folder) and DYNO_HOME in it. Nothing of the caller's own apps is
# touched, and only processes that were started here are ended.
set -Eeuo pipefail
trap 'say "line $LINENO of ${BASH_SOURCE[0]##*/} failed: $BASH_COMMAND"' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { echo "bench: $*" >&2; }

give_up() {
    say "$*"
    exit 1
}

# The binary: $DYNO, else the newest release build.
find_dyno() {
    local candidate
    if [[ -n ${DYNO:-} ]]; then
        candidate=$DYNO
    else
        candidate=$(find "$root/target" -maxdepth 3 -path '*/release/dyno' -type f -printf '%T@ %p\n' \
            2>/dev/null | sort -rn | head -n 1 | cut -d ' ' -f 2-)
    fi
    [[ -n $candidate ]] || give_up "no release build: cargo build --release makes one, \$DYNO names another"
    [[ -x $candidate ]] || give_up "$candidate is no program"
    realpath "$candidate"
}

# Programs that a benchmark cannot do without.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || give_up "needs $tool, which is not installed"
    done
}

# Whether a peer is there; says so if it is not.
have() {
    command -v "$1" >/dev/null && return
    say "$1 is not installed: left out"
    return 1
}

# begin [OPTION...]: a server, with these options of `dyno server`.
# The state lies below $TMPDIR, as does every dyno's overlay: it should be on a disk, as it is in real life.
begin() {
    dyno=$(find_dyno)
    work=$(mktemp -d "${TMPDIR:-/tmp}/dyno-bench.XXXXXX")
    export DYNO_HOME=$work/home
    unset DYNO_APP
    server=
    started=()
    trap end EXIT
    trap 'exit 130' INT TERM
    mkdir "$DYNO_HOME"
    "$dyno" server "$@" >"$work/server.log" 2>&1 &
    server=$!
    local deadline=$((SECONDS + 10))
    until [[ -S $DYNO_HOME/api.sock ]]; do
        kill -0 "$server" 2>/dev/null || give_up "the server did not start: $(<"$work/server.log")"
        ((SECONDS < deadline)) || give_up "the server does not listen"
        sleep 0.01
    done
}

end() {
    local pid
    # Its dynos would outlive it.
    "$dyno" server:stop --all >/dev/null 2>&1 || true
    for pid in "${started[@]}" $server; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    # What a stopped server leaves may be read-only.
    chmod -R u+rwX "$work" 2>/dev/null || true
    rm -rf "$work"
}

# An app with next to nothing in its slug, linked to $work/NAME.
make_app() {
    mkdir "$work/$1"
    echo 'web: true' >"$work/$1/Procfile"
    (cd "$work/$1" && "$dyno" create "$1" && "$dyno" deploy --no-web) 2>>"$work/deploy.log" >&2 \
        || give_up "cannot deploy: $(<"$work/deploy.log")"
}

# The median of the numbers given.
median() { printf '%s\n' "$@" | sort -g | awk '{ t[NR] = $1 } END { print (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2 }'; }

# Seconds that a command line takes; a failure ends the benchmark.
seconds() {
    local start=$EPOCHREALTIME end
    eval "$1" || give_up "failed: $1"
    end=$EPOCHREALTIME
    awk -v start="$start" -v end="$end" 'BEGIN { printf "%.6f\n", end - start }'
}

table() {
    echo "| measured | dyno | beside it | ratio | aim |"
    echo "|---|---|---|---|---|"
}

# row WHAT OURS THEIRS RATIO AIM
row() { printf '| %s | %s | %s | %s | %s |\n' "$@"; }

# How bubblewrap is asked for walls as a dyno has them, its network namespace apart.
# shellcheck disable=SC2034 # for those who source this
bwrap=(bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all)
