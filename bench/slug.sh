#!/usr/bin/env bash
# Packing and unpacking a slug, beside GNU tar, in one run.
#
#   bench/slug.sh [RUNS]          (default 5; $DYNO is the binary, $BENCH_DIR where to work)
#
# The tree is what node_modules looks like: 45,000 files and 400 MB, most files small, most bytes in
# a few large ones, text that gzip makes a third of and some that it cannot make smaller. It is made
# once, the same everywhere. Needs GNU tar, gzip, perl, 2 GB of disk and 2 GB per run.
set -euo pipefail

runs=${1:-5}
here=$(cd "$(dirname "$0")/.." && pwd)
dyno=${DYNO:-$here/target/release/dyno}
[[ -x $dyno ]] || dyno=$(ls -t "$here"/target/*/release/dyno 2>/dev/null | head -n 1)
for tool in tar gzip perl; do
    command -v "$tool" >/dev/null || { echo "bench/slug.sh: needs $tool" >&2; exit 1; }
done

work=${BENCH_DIR:-${TMPDIR:-/tmp}/dyno-bench-slug}
mkdir -p "$work"
cd "$work"

if [[ ! -e tree.done ]]; then
    echo "making the tree in $work/tree"
    rm -rf tree
    mkdir tree
    perl - 45000 400000000 <<'PERL'
use strict;
my ($files, $total) = @ARGV;
srand(20240229);

# Two pools to cut contents from, far larger than gzip's window of 32 KiB.
my @words = map { join '', map { chr(97 + int rand 26) } 1 .. 2 + rand 9 } 1 .. 2000;
my @glue = (' ', ' ', ' ', '.', '(', ') ', ', ', " = ", ";\n    ", " {\n  ", "}\n");
my ($text, $noise) = ('', '');
my (@lines, $line);
while (length $text < 24_000_000) {
    # As in code, a line has often been written before.
    if (@lines > 500 && rand() < 0.6) { $text .= $lines[-1 - 500 * rand() ** 2]; next }
    $line = join '', map { $words[2000 * rand() ** 3] . $glue[rand @glue] } 1 .. 1 + rand 12;
    push @lines, $line;
    $text .= $line;
}
$noise .= pack 'N', rand 2 ** 32 while length $noise < 8_000_000;

my @sizes = map { exp(7.2 + 1.7 * sqrt(-2 * log(1 - rand)) * cos(6.283185307 * rand)) } 1 .. $files;
my $sum = 0;
$sum += $_ for @sizes;
my %made;
for my $n (0 .. $files - 1) {
    my $size = int($sizes[$n] * $total / $sum);
    my $dir = 'tree/node_modules/p' . int($n / 50);
    $dir .= '/' . (qw(lib src dist test lib/util dist/esm))[$n / 7 % 6] if $n % 50 > 6;
    unless ($made{$dir}++) {
        my $path = '';
        for (split m{/}, $dir) { $path .= "$_/"; mkdir $path }
    }
    my $pool = $n % 12 == 5 ? \$noise : \$text;
    my $body = '';
    while (length $body < $size) {
        my $piece = $size - length $body;
        $piece = 4_000_000 if $piece > 4_000_000;
        $body .= substr $$pool, int rand(length($$pool) - $piece), $piece;
    }
    open my $out, '>', sprintf('%s/file-%05d.js', $dir, $n) or die "$dir: $!";
    print $out $body;
    close $out or die $!;
}
PERL
    touch tree.done
fi
echo "tree: $(find tree -type f | wc -l) files, $(find tree -type d | wc -l) directories," \
    "$(find tree -type f -printf '%s\n' | awk '{s += $1} END {print s}') bytes"

# The median of the numbers given.
median() { printf '%s\n' "$@" | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'; }

# Seconds that a command takes. It writes to $new, a name not used before.
seconds() {
    local new start end
    new=$(mktemp -u new.XXXXXX)
    sync
    start=$EPOCHREALTIME
    eval "$1" >/dev/null
    end=$EPOCHREALTIME
    awk -v start="$start" -v end="$end" 'BEGIN { print end - start }'
}

# compare NAME AIM OURS THEIRS
#
# In turns, and nothing is removed in between: ext4 shuns inodes that were deleted within the last
# minutes, and looking for others can take several times as long as unpacking does. Whatever of that
# is left from before, and whatever else runs on the machine, then hits both.
compare() {
    local ours=() theirs=()
    for ((run = 0; run < runs; run++)); do
        theirs+=("$(seconds "$4")")
        ours+=("$(seconds "$3")")
    done
    awk -v name="$1" -v aim="$2" -v ours="$(median "${ours[@]}")" -v theirs="$(median "${theirs[@]}")" \
        'BEGIN { printf "%-12s dyno %6.2f s   tar %6.2f s   ratio %.2f (aim: at most %s)\n",
                 name, ours, theirs, ours / theirs, aim }'
}

trap 'rm -rf "$work"/new.*' EXIT
compare pack 1.0 "$dyno __slug pack tree \$new 6" \
    'GZIP=-6 tar czf $new --transform s,^tree,./app, tree 2>new.warnings'
tar cf - --transform s,^tree,./app, tree | gzip -6 >theirs.tgz
"$dyno" __slug pack tree ours.tgz 6 >/dev/null
echo "tarballs: dyno $(stat -c %s ours.tgz) bytes, tar $(stat -c %s theirs.tgz) bytes"

# dyno has the tree on the disk when it is done, tar has it in memory: so also against both.
ours="$dyno __slug unpack theirs.tgz \$new"
theirs='mkdir $new && tar xzf theirs.tgz -C $new --strip-components=2'
compare unpack 0.8 "$ours" "$theirs"
compare unpack+sync 0.8 "$ours" "$theirs && sync -f \$new"
