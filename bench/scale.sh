#!/usr/bin/env bash
# Scaling up: from `dyno ps:scale web=50` until all fifty web dynos listen and are up.
#
#   bench/scale.sh [DYNOS [RUNS]]      (default 50 dynos, 5 runs; $DYNO is the binary)
#
# The app is a web server that is quick to start (nginx with a fixed answer), so that what is measured is the platform.
# Beside it: the same number of the same servers started by a shell, all at once, until each of them accepts.
source "$(dirname "$0")/setup.sh"

dynos=${1:-50}
runs=${2:-5}
need awk nginx python3
begin

mkdir "$work/bench"
cat >"$work/bench/nginx.conf" <<'CONF'
daemon off;
worker_processes 1;
pid TMP/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path TMP/body;
    proxy_temp_path TMP/proxy;
    fastcgi_temp_path TMP/fastcgi;
    uwsgi_temp_path TMP/uwsgi;
    scgi_temp_path TMP/scgi;
    server { listen 127.0.0.1:PORT; location / { return 200 "hello, world\n"; } }
}
CONF
# shellcheck disable=SC2016 # the dyno's $PORT
echo 'web: sed "s/PORT/$PORT/;s#TMP#/tmp#" nginx.conf >/tmp/nginx.conf; exec '"$(command -v nginx)"' -c /tmp/nginx.conf' \
    >"$work/bench/Procfile"
(cd "$work/bench" && "$dyno" create bench && "$dyno" deploy --no-web) 2>>"$work/deploy.log" >&2 \
    || give_up "cannot deploy: $(<"$work/deploy.log")"

up() { "$dyno" ps:scale -a bench "web=$dynos" 2>/dev/null && "$dyno" ps:wait -a bench 2>/dev/null; }
down() {
    "$dyno" ps:scale -a bench web=0 2>/dev/null
    local deadline=$((SECONDS + 60))
    until "$dyno" server:status | grep -q '^dynos: *none'; do
        ((SECONDS < deadline)) || give_up "the dynos do not end"
        sleep 0.1
    done
}

# The same without a platform.
bare_up() {
    local number
    for ((number = 0; number < dynos; number++)); do
        mkdir -p "$work/bare/$number"
        sed "s/PORT/$((40000 + number))/;s#TMP#$work/bare/$number#" "$work/bench/nginx.conf" >"$work/bare/$number/nginx.conf"
        nginx -c "$work/bare/$number/nginx.conf" >/dev/null 2>&1 &
        echo $! >>"$work/bare/pids"
    done
    python3 - "$dynos" <<'PYTHON'
import socket, sys, time
for port in range(40000, 40000 + int(sys.argv[1])):
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(('127.0.0.1', port)).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f'nobody listens on {port}')
            time.sleep(0.002)
PYTHON
}
bare_down() {
    local pid
    while read -r pid; do kill "$pid" 2>/dev/null || true; done <"$work/bare/pids"
    local deadline=$((SECONDS + 30))
    while read -r pid; do
        while kill -0 "$pid" 2>/dev/null; do
            ((SECONDS < deadline)) || give_up "nginx does not end"
            sleep 0.05
        done
    done <"$work/bare/pids"
    rm -rf "$work/bare"
}

table
ours=() theirs=() ratios=()
for ((run = 1; run <= runs; run++)); do
    say "$dynos dynos: $run of $runs"
    theirs+=("$(seconds bare_up)")
    bare_down
    ours+=("$(seconds up)")
    down
    ratios+=("$(awk "BEGIN { print ${ours[-1]} / ${theirs[-1]} }")")
done
row "until $dynos web dynos are up / as many started by a shell" "$(median "${ours[@]}") s" "$(median "${theirs[@]}") s" \
    "$(printf '%.2f' "$(median "${ratios[@]}")")" 'under 2 s'
