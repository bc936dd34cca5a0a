#!/usr/bin/env bash
# Requests a second through the router, beside nginx as a proxy to the same web dyno, both logging each request.
#
#   bench/router.sh [RUNS [SECONDS]]      (default 5 runs of 5 seconds each; $DYNO is the binary)
#
# wrk asks with 64 and with 512 connections, kept and made anew for each request. Runs alternate; what is shown are
# medians, and the ratio is the median of the ratios of neighbouring runs. Then 2,000 connections are made to each, ask
# once, and are left idle: what the processes have grown by (proportional set size) is their memory.
#
# nginx has one worker, as the router has one thread, and keeps connections to the dyno, as the router does.
source "$(dirname "$0")/setup.sh"

runs=${1:-5}
span=${2:-5}
idle=2000
need awk wrk nginx python3 pgrep
ulimit -n 20000 2>/dev/null || give_up "2,000 connections need more open files: ulimit -Hn is $(ulimit -Hn)"
router=127.0.0.1:${BENCH_ROUTER_PORT:-18080}
begin --router "$router"

# A web dyno that costs as little as possible: nginx again, with a fixed answer.
mkdir "$work/bench"
cat >"$work/bench/nginx.conf" <<'CONF'
daemon off;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server { listen 127.0.0.1:PORT backlog=4096; location / { return 200 "hello, world\n"; } }
}
CONF
# shellcheck disable=SC2016 # the dyno's $PORT
echo 'web: echo "port $PORT"; sed "s/PORT/$PORT/" nginx.conf >/tmp/nginx.conf; exec '"$(command -v nginx)"' -c /tmp/nginx.conf' \
    >"$work/bench/Procfile"
(cd "$work/bench" && "$dyno" create bench && "$dyno" deploy) 2>>"$work/deploy.log" >&2 \
    || give_up "cannot deploy: $(<"$work/deploy.log")"
port=
deadline=$((SECONDS + 30))
until port=$("$dyno" logs -a bench 2>/dev/null | grep -o 'app\[web\.1\]: port [0-9]*' | tail -n 1 | grep -o '[0-9]*$') \
    && python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null; do
    ((SECONDS < deadline)) || give_up "the web dyno does not listen: $("$dyno" logs -a bench)"
    sleep 0.1
done

proxy=127.0.0.1:${BENCH_PROXY_PORT:-18081}
mkdir "$work/nginx"
cat >"$work/nginx/nginx.conf" <<CONF
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid $work/nginx/pid;
error_log $work/nginx/error.log;
events { worker_connections 8192; }
http {
    access_log $work/nginx/access.log;
    keepalive_requests 1000000000;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/proxy;
    upstream app { server 127.0.0.1:$port; keepalive 64; keepalive_requests 1000000000; }
    server {
        listen $proxy backlog=4096;
        location / {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$host;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto http;
            proxy_set_header X-Forwarded-Port ${proxy#*:};
            proxy_set_header X-Request-Id \$request_id;
        }
    }
}
CONF
nginx -c "$work/nginx/nginx.conf" 2>>"$work/nginx/start.log" &
nginx=$!
started+=("$nginx")

# ask ADDRESS CONNECTIONS [FIELD]: requests a second, and the 99th percentile in milliseconds.
ask() {
    local out
    out=$(wrk -t1 "-c$2" "-d${span}s" --latency -H 'Host: bench.localhost' ${3:+-H "$3"} "http://$1/")
    ! grep -q 'Non-2xx\|Socket errors' <<<"$out" || give_up "not every request was answered: $out"
    awk '
        function milliseconds(text) {
            if (text ~ /us$/) return text / 1000
            if (text ~ /ms$/) return text + 0
            return text * 1000
        }
        $1 == "99%" { slow = milliseconds($2) }
        $1 == "Requests/sec:" { print $2, slow }' <<<"$out"
}

until ask "$proxy" 1 >/dev/null 2>&1; do sleep 0.1; done
ask "$router" 1 >/dev/null

# grown ADDRESS PID...: bytes that these processes have grown by for each idle connection. Asked before there was any load: what either
# has kept from then would hide what a connection takes.
grown() {
    python3 - "$idle" "$@" <<'PYTHON'
import socket, sys, time
count, (host, port), pids = int(sys.argv[1]), sys.argv[2].split(':'), sys.argv[3:]
def size():
    lines = (line.split() for pid in pids for line in open(f'/proc/{pid}/smaps_rollup'))
    return sum(int(words[1]) for words in lines if words[0] == 'Pss:')
def connect():
    client = socket.create_connection((host, port))
    client.sendall(b'GET / HTTP/1.1\r\nHost: bench.localhost\r\n\r\n')
    assert client.recv(4096).startswith(b'HTTP/1.1 200')
    return client
before, clients = size(), [connect() for _ in range(count)]
time.sleep(0.5)
print((size() - before) * 1024 // count)
PYTHON
}

table
ours=$(grown "$router" "$server")
mapfile -t workers < <(pgrep -P "$nginx")
theirs=$(grown "$proxy" "$nginx" "${workers[@]}")
row "an idle connection, of $idle" "$ours B" "$theirs B" "$(awk "BEGIN { printf \"%.2f\", $ours / ($theirs ? $theirs : 1) }")" '1.0 at most'
for kind in kept 'made anew'; do
    field=
    [[ $kind == kept ]] || field='Connection: close'
    for connections in 64 512; do
        ours=() theirs=() ratios=() our_slow=() their_slow=() slow_ratios=()
        for ((run = 1; run <= runs; run++)); do
            say "$kind, $connections connections: $run of $runs"
            read -r count slow < <(ask "$proxy" "$connections" "$field")
            theirs+=("$count") their_slow+=("$slow")
            read -r count slow < <(ask "$router" "$connections" "$field")
            ours+=("$count") our_slow+=("$slow")
            ratios+=("$(awk "BEGIN { print $count / ${theirs[-1]} }")")
            slow_ratios+=("$(awk "BEGIN { print $slow / ${their_slow[-1]} }")")
        done
        what="$connections connections, $kind"
        row "$what: requests/s / nginx" "$(printf '%.0f' "$(median "${ours[@]}")")" "$(printf '%.0f' "$(median "${theirs[@]}")")" \
            "$(printf '%.2f' "$(median "${ratios[@]}")")" '1.0 at least'
        row "$what: p99 / nginx" "$(printf '%.1f' "$(median "${our_slow[@]}")") ms" \
            "$(printf '%.1f' "$(median "${their_slow[@]}")") ms" "$(printf '%.2f' "$(median "${slow_ratios[@]}")")" '1.5 at most'
    done
done
