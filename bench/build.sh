#!/usr/bin/env bash
# From a push to an answer: cold, and after a change of one line, of an app with some 45,000 files of dependencies, beside the same steps
# typed by hand, beside `tar` of the result, and beside an app without any.
#
#   bench/build.sh [RUNS]          (default 3; $DYNO is the binary, $BENCH_ROUTER_PORT the router's port)
#
# Needs node, npm, git, curl, a registry of npm's, and 4 GB of disk. The cold row is one run each, with empty caches; the network is in it.
source "$(dirname "$0")/setup.sh"

runs=${1:-3}
need awk curl git node npm tar
port=${BENCH_ROUTER_PORT:-15110}
begin --router "127.0.0.1:$port"
export npm_config_audit=false npm_config_fund=false npm_config_loglevel=error npm_config_cache=$work/npm

# source NAME DEPENDENCIES: a repository with a manifest and a lock, linked to an app of that name.
source_of() {
    mkdir "$work/$1"
    cd "$work/$1"
    cat >package.json <<JSON
{"name":"$1","version":"1.0.0","private":true,"scripts":{"start":"node server.js"},"dependencies":{$2}}
JSON
    cat >server.js <<'JS'
const version = 0;
require('http').createServer((_, answer) => answer.end('version ' + version + '\n')).listen(process.env.PORT);
JS
    npm install --package-lock-only --silent
    printf 'node_modules\n' >.gitignore
    git init -q -b main
    git config user.email bench@localhost
    git config user.name bench
    commit
    { "$dyno" create "$1" && "$dyno" git:remote -a "$1"; } >/dev/null 2>&1
    cd "$root"
}

commit() { git add -A && git commit -qm "version"; }

# change NAME N: its one line.
change() { (cd "$work/$1" && sed -i "s/^const version = .*/const version = $2;/" server.js && commit); }

# Until the app NAME says version N.
answers() {
    local deadline=$((SECONDS + 120))
    until [[ $(curl -s -H "Host: $1.localhost" "http://127.0.0.1:$port/") == "version $2" ]]; do
        ((SECONDS < deadline)) || give_up "$1 does not answer with version $2: $("$dyno" logs -a "$1" -n 20)"
        sleep 0.02
    done
}

push() { (cd "$work/$1" && git push -q dyno main >"$work/push.log" 2>&1 || give_up "$(<"$work/push.log")") && answers "$1" "$2"; }

# The same by hand, in a folder of its own: get the commit, install, start, ask.
by_hand() {
    local folder=$work/hand pid
    [[ -d $folder ]] || git clone -q "$work/$1" "$folder"
    (cd "$folder" && git pull -q && npm ci --silent)
    (cd "$folder" && PORT=15111 exec node server.js) &
    pid=$!
    started+=("$pid")
    until [[ $(curl -s http://127.0.0.1:15111/) == "version $2" ]]; do sleep 0.02; done
    kill "$pid"
    wait "$pid" 2>/dev/null || true
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
figures() { row "$1" "$(printf '%.2f s' "$2")" "$(printf '%.2f s' "$3")" "$(ratio "$2" "$3")" "$4"; }

source_of light ''
source_of heavy '"express":"^4","react":"^18","react-dom":"^18","@emotion/react":"^11","@emotion/styled":"^11","@mui/material":"^5","@mui/icons-material":"^5","date-fns":"^2","googleapis":"^144"'
rm -rf "$work/npm"

table
push light 0
theirs=$(seconds 'by_hand heavy 0')
ours=$(seconds 'push heavy 0')
figures 'cold: `git push` to answering / `npm ci` and `node`' "$ours" "$theirs" '-'
heavy=() hand=() light=()
for ((run = 1; run <= runs; run++)); do
    change light "$run"
    change heavy "$run"
    light+=("$(seconds "push light $run")")
    heavy+=("$(seconds "push heavy $run")")
    hand+=("$(seconds "by_hand heavy $run")")
done
ours=$(median "${heavy[@]}")
figures 'one line changed: `git push` to answering / `npm ci` and `node`' "$ours" "$(median "${hand[@]}")" '-'
figures 'one line changed, with 45,000 files of dependencies / without any' "$ours" "$(median "${light[@]}")" 'at most 1.5'
theirs=$(seconds "tar czf '$work/tree.tgz' -C '$work/hand' .")
figures 'one line changed: `git push` to answering / `tar czf` of the tree' "$ours" "$theirs" '-'
say "dependencies: $(find "$work/hand/node_modules" -type f | wc -l) files, $(du -sm "$work/hand/node_modules" | cut -f 1) MB"
