#!/usr/bin/env bash
# Bytes and keys through the rendezvous: a file beside openssl's own server with the same client, and the time from a key to
# its echo beside ssh to this host.
#
#   bench/rendezvous.sh [RUNS [KEYS]]      (default 9 runs, 2000 keys in each; $DYNO is the binary)
#
# Runs alternate; what is shown are medians, and the ratio is the median of the ratios of neighbouring runs. The client of both
# files is `openssl s_client`, so both end where it does. The keys go to `cat` on a terminal, which echoes them: once by way of
# `openssl s_client` and the rendezvous, once by way of `ssh` and an sshd of our own on a loopback port. $BENCH_BYTES is the
# file's size (536870912).
source "$(dirname "$0")/setup.sh"

runs=${1:-9}
keys=${2:-2000}
bytes=${BENCH_BYTES:-536870912}
need awk openssl python3 curl
meeting=127.0.0.1:${BENCH_RENDEZVOUS_PORT:-15000}
begin --rendezvous "$meeting"

mkdir "$work/bench"
echo 'web: true' >"$work/bench/Procfile"
yes 'a line of text that is as long as those of a log mostly are, give or take a few' 2>/dev/null \
    | head -c "$bytes" >"$work/bench/lines" || true
(cd "$work/bench" && "$dyno" create bench && "$dyno" deploy --no-web) 2>>"$work/deploy.log" >&2 \
    || give_up "cannot deploy: $(<"$work/deploy.log")"

# attach BODY: makes a dyno and prints the secret by which one meets it.
attach() {
    local url
    url=$(curl -sS --unix-socket "$DYNO_HOME/api.sock" http://localhost/apps/bench/dynos -d "$1" \
        | grep -o '"attach_url":"[^"]*"') || give_up "no dyno"
    url=${url##*/}
    echo "${url%\"}"
}

client=(openssl s_client -quiet -verify_return_error -servername localhost)
ca=$DYNO_HOME/tls/ca.pem

# A server of openssl's, with the same kind of key, for the same client.
other=${BENCH_OPENSSL_PORT:-15001}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
(cd "$work/bench" && exec openssl s_server -quiet -WWW -accept "127.0.0.1:$other" -cert "$work/cert.pem" \
    -key "$work/key.pem" >"$work/openssl.log" 2>&1) &
started+=($!)

listens() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $1))" 2>/dev/null; }
wait_for() {
    local deadline=$((SECONDS + 10))
    until listens "$1"; do
        ((SECONDS < deadline)) || give_up "nobody listens on port $1"
        sleep 0.1
    done
}
wait_for "$other"

through_dyno() {
    local count
    count=$("${client[@]}" -connect "localhost:${meeting##*:}" -CAfile "$ca" <<<"$secret" 2>/dev/null | wc -c)
    # The greeting comes first.
    ((count == bytes + 12)) || give_up "$count bytes of $bytes arrived"
}

through_openssl() {
    local count
    count=$("${client[@]}" -connect "localhost:$other" -CAfile "$work/cert.pem" <<<$'GET /lines HTTP/1.0\r\n\r' 2>/dev/null | wc -c)
    # A head comes first.
    ((count > bytes)) || give_up "$count bytes of $bytes arrived from openssl"
}

table
ours=() theirs=()
for ((run = 1; run <= runs; run++)); do
    say "bytes: $run of $runs"
    theirs+=("$(seconds through_openssl)")
    secret=$(attach '{"attach": true, "force_no_tty": true, "command": "cat lines"}')
    ours+=("$(seconds through_dyno)")
done
rate() { awk -v bytes="$bytes" -v seconds="$1" 'BEGIN { printf "%.0f MB/s", bytes / seconds / 1e6 }'; }
# ratios HOW: of neighbouring runs, theirs / ours (rates) or ours / theirs (times).
ratio() {
    local ratios=() i
    for i in "${!ours[@]}"; do
        ratios+=("$(awk -v ours="${ours[i]}" -v theirs="${theirs[i]}" -v how="$1" \
            'BEGIN { print how == "rates" ? theirs / ours : ours / theirs }')")
    done
    printf '%.2f' "$(median "${ratios[@]}")"
}
row "$((bytes >> 20)) MiB from a dyno to \`openssl s_client\` / from \`openssl s_server\`" "$(rate "$(median "${ours[@]}")")" \
    "$(rate "$(median "${theirs[@]}")")" "$(ratio rates)" 'at least 0.5'

# Keys: an sshd of our own, for the user who runs this.
sshd=$(command -v sshd || echo /usr/sbin/sshd)
if [[ ! -x $sshd ]] || ! have ssh; then
    say "no sshd: no keys beside it"
    exit 0
fi
port=${BENCH_SSH_PORT:-15022}
mkdir -m 700 "$work/ssh"
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/$key"; done
cp "$work/ssh/user.pub" "$work/ssh/authorized_keys"
cat >"$work/ssh/config" <<CONF
ListenAddress 127.0.0.1:$port
HostKey $work/ssh/host
PidFile none
AuthorizedKeysFile $work/ssh/authorized_keys
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
CONF
# Where it drops privileges in when root starts it.
[[ $(id -u) != 0 ]] || mkdir -p /run/sshd
"$sshd" -D -e -f "$work/ssh/config" 2>"$work/ssh/log" &
started+=($!)
wait_for "$port"
to_ssh=(ssh -tt -F none -i "$work/ssh/user" -p "$port" -o BatchMode=yes -o StrictHostKeyChecking=no
    -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
# Of newer ones, which send keys at made-up times.
ssh -G -o ObscureKeystrokeTiming=no localhost >/dev/null 2>&1 && to_ssh+=(-o ObscureKeystrokeTiming=no)
to_ssh+=(localhost 'echo ready; exec cat')

keystrokes=$root/bench/keystrokes.py
ours_median=() ours_tail=() theirs_median=() theirs_tail=()
for ((run = 1; run <= runs; run++)); do
    say "keys: $run of $runs"
    read -r middle tail < <("$keystrokes" "$keys" '' "${to_ssh[@]}")
    theirs_median+=("$middle") theirs_tail+=("$tail")
    secret=$(attach '{"attach": true, "command": "echo ready; exec cat", "env": {"TERM": "xterm", "COLUMNS": 80, "LINES": 24}}')
    read -r middle tail < <("$keystrokes" "$keys" "$secret" "${client[@]}" -connect "localhost:${meeting##*:}" -CAfile "$ca" 2>/dev/null)
    ours_median+=("$middle") ours_tail+=("$tail")
done
ours=("${ours_median[@]}") theirs=("${theirs_median[@]}")
row "a key and its echo, median / ssh" "$(median "${ours[@]}") µs" "$(median "${theirs[@]}") µs" "$(ratio times)" 'at most 1'
ours=("${ours_tail[@]}") theirs=("${theirs_tail[@]}")
row "the same at p99 / ssh" "$(median "${ours[@]}") µs" "$(median "${theirs[@]}") µs" "$(ratio times)" 'at most 1'
