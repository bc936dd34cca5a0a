#!/usr/bin/env bash
# Starting a command: from the command line to its exit status, beside other ways to put walls around one.
#
#   bench/start.sh [ROUNDS [RUNS]]      (default 7 rounds of 60 runs; $DYNO is the binary)
#
# In every round each command is run RUNS times; the ratio of a round is that of its medians, and the table has the
# median of the rounds. The server is warm. $BENCH_BIG=no leaves out the slug of 45,000 files and 400 MB, which
# needs 1.5 GB below $TMPDIR. docker takes part with the image $DOCKER_IMAGE (debian:stable-slim) if that is there.
source "$(dirname "$0")/setup.sh"

rounds=${1:-7}
runs=${2:-60}
need hyperfine bwrap awk
begin

make_app small
cd "$work/small"

make_app none
"$dyno" network -a none none >/dev/null

names=(bwrap linked named none)
commands=("${bwrap[*]} bash -c true" "$dyno run true" "$dyno run -a small true" "$dyno run -a none true")

if [[ ${BENCH_BIG:-yes} != no ]]; then
    say "making and deploying 45,000 files of 400 MB"
    mkdir "$work/big"
    seq 1 200000 >"$work/numbers"
    head -c 890000 "$work/numbers" >"$work/text"
    for folder in {100..549}; do
        mkdir "$work/big/$folder"
        split -b 8900 -a 3 -d "$work/text" "$work/big/$folder/file"
    done
    echo 'web: true' >"$work/big/Procfile"
    "$dyno" -C "$work/big" create big 2>>"$work/deploy.log"
    DYNO_SLUG_LEVEL=1 "$dyno" -a big deploy --no-web "$work/big" 2>>"$work/deploy.log" \
        || give_up "cannot deploy: $(<"$work/deploy.log")"
    rm -rf "$work/big"
    "$dyno" run -a big -q true
    names+=(big)
    commands+=("$dyno run -a big true")
fi

# runc, on the same system folders.
make_bundle() {
    mkdir -p "$work/bundle/rootfs"
    local folder mounts='' links=''
    for folder in bin sbin lib lib64; do
        if [[ -L /$folder ]]; then
            cp -P "/$folder" "$work/bundle/rootfs/"
        elif [[ -d /$folder ]]; then
            links+=" $folder"
        fi
    done
    # shellcheck disable=SC2086 # a list of names
    for folder in usr etc $links; do
        mounts+="{\"destination\": \"/$folder\", \"type\": \"bind\", \"source\": \"/$folder\", \"options\": [\"rbind\", \"ro\"]},"
    done
    cat >"$work/bundle/config.json" <<JSON
{"ociVersion": "1.0.2", "hostname": "bench", "root": {"path": "rootfs"},
 "process": {"user": {"uid": 1000, "gid": 1000}, "cwd": "/", "args": ["bash", "-c", "true"], "noNewPrivileges": true,
             "env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
 "mounts": [$mounts
  {"destination": "/proc", "type": "proc", "source": "proc"},
  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
 "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}]}}
JSON
}

if have runc; then
    make_bundle
    run_bundle="runc --root $work/runc run -b $work/bundle bench-$$"
    if $run_bundle >"$work/runc.log" 2>&1 </dev/null; then
        names+=(runc)
        commands+=("$run_bundle")
    else
        say "runc does not work here, left out: $(head -n 1 "$work/runc.log")"
    fi
fi

image=${DOCKER_IMAGE:-debian:stable-slim}
if have docker; then
    if docker image inspect "$image" >/dev/null 2>&1; then
        names+=(docker)
        commands+=("docker run --rm $image true")
    else
        say "docker is left out: no daemon answers, or it has no image $image"
    fi
fi

if have foreman; then
    names+=(foreman)
    commands+=("foreman run true")
fi

arguments=()
for i in "${!names[@]}"; do
    arguments+=(--command-name "${names[i]}" "${commands[i]}")
done
for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    hyperfine -N --warmup 5 --runs "$runs" --export-csv "$work/$round.csv" "${arguments[@]}" \
        >"$work/hyperfine.log" 2>&1 || give_up "$(<"$work/hyperfine.log")"
done

# A column of medians, in milliseconds: one line for each round.
medians() { awk -F , -v name="$1" '$1 == name { print $4 * 1000 }' "$work"/[0-9]*.csv; }

ratio() {
    local all
    mapfile -t all < <(paste <(medians "$1") <(medians "$2") | awk '{ print $1 / $2 }')
    printf '%.2f' "$(median "${all[@]}")"
}

ms() {
    local all
    mapfile -t all < <(medians "$1")
    printf '%.1f ms' "$(median "${all[@]}")"
}

table
row "\`dyno run true\` in a linked folder / bwrap" "$(ms linked)" "$(ms bwrap)" "$(ratio linked bwrap)" 'at most 1.3, better 1.0'
row "\`dyno run -a small true\` / bwrap" "$(ms named)" "$(ms bwrap)" "$(ratio named bwrap)" 'at most 1.3, better 1.0'
row "\`dyno run -a none true\`, with a network of its own / bwrap" "$(ms none)" "$(ms bwrap)" "$(ratio none bwrap)" ''
for name in "${names[@]}"; do
    case $name in
        big) row 'slug of 45,000 files and 400 MB / small slug' "$(ms big)" "$(ms named)" "$(ratio big named)" 'at most 1.1' ;;
        runc | docker | foreman) row "\`dyno run -a small true\` / $name" "$(ms named)" "$(ms "$name")" "$(ratio named "$name")" '' ;;
    esac
done
