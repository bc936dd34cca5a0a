#!/usr/bin/env bash
# All benchmarks, one after the other, as Markdown for docs/performance.md.
#
#   bench/run.sh      ($DYNO is the binary; default: the newest release build)
#
# Takes some fifteen minutes and 4 GB below $TMPDIR. Figures are only worth something on a machine that does nothing else:
# the load before the start is printed with them.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export DYNO=${DYNO:-}
version() { if command -v "$1" >/dev/null; then "$@" 2>/dev/null | head -n 1; else echo "$1: not installed"; fi; }

cat <<EOF
- $(date -u +%Y-%m-%d), $(nproc) cores, $(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), Linux $(uname -r),
  load $(cut -d ' ' -f 1 /proc/loadavg) before, as $(if [[ $(id -u) == 0 ]]; then echo root; else echo "an ordinary user"; fi)
- $(version bwrap --version); $(version runc --version); $(version docker --version); $(version hyperfine --version)

EOF

failed=()
header=
for piece in start pipes memory ps many logs scale router rendezvous; do
    # One table of all of them.
    if rows=$("$here/$piece.sh"); then
        if [[ -z $header ]]; then head -n 2 <<<"$rows"; header=printed; fi
        tail -n +3 <<<"$rows"
    else
        failed+=("$piece")
    fi
done

if [[ -x $here/slug.sh ]]; then
    echo
    echo '```'
    "$here/slug.sh" || failed+=(slug)
    echo '```'
fi
((${#failed[@]} == 0)) || { echo "bench: no figures from ${failed[*]}" >&2; exit 1; }
