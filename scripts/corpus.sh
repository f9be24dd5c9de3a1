#!/bin/bash
# corpus.sh [NAME…]: real images to test and measure on, as OCI layouts.
#
#   NAME     debian layered node-app node-app-zstd wordpressish debian-v1 debian-v2; default: all
#   makes    CORPUS/oci/NAME          OCI layout, tag "latest"
#            CORPUS/tars/NAME/NN.tar  its uncompressed layer tars, in order
#            CORPUS/corpus.tsv        sizes and counts per layer
#   where    CORPUS is $VENEER_CORPUS, else .cache/corpus of the project
#   mirrors  what this machine's apt uses; MIRROR= and SECMIRROR= override
#
# An image that is there stays as it is and costs nothing. Building needs root on
# Debian 12 and installs what it needs. Images are made by real commands (mmdebstrap,
# apt-get, npm, rm, chown …): a small program compares the tree before and after each
# and writes the OCI layer. Times are clamped, logs and caches left out, so the same
# package versions give the same bytes.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH=1746403200 # 2025-05-05
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LIB=$HERE/corpus
ALL=(debian layered node-app node-app-zstd wordpressish debian-v1 debian-v2)
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
BUILD_PACKAGES=(mmdebstrap python3 tar gzip zstd xz-utils ca-certificates debian-archive-keyring libcap2-bin)
OUT=${VENEER_CORPUS:-$HERE/../.cache/corpus}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
. "$LIB/lib.sh"

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${ALL[@]}")
missing() { # which of the wanted images are not there
  local name
  for name in "${wanted[@]}"; do
    case " ${ALL[*]} " in *" $name "*) ;; *) die "no image is called $name; there are: ${ALL[*]}" ;; esac
    [ -e "$OUT/oci/$name/index.json" ] || printf '%s\n' "$name"
  done
}
absent=$(missing)
[ -n "$absent" ] || exit 0
[ "$(id -u)" = 0 ] || die "making $(tr '\n' ' ' <<<"$absent")needs root (chroot, chown, device nodes)"

exec 9>"$OUT/.lock"
flock 9
absent=$(missing) # another run may have made them meanwhile
B=$OUT/.build
rm -rf "$B"
mkdir -p "$B"
trap 'rm -rf "$B"' EXIT
for recipe in debian layered node-app wordpressish delta; do . "$LIB/$recipe.sh"; done
for name in $absent; do
  [ -e "$OUT/oci/$name/index.json" ] && continue
  say "$name"
  "make_${name//-/_}"
done
{
  printf 'image\tlayer\ttar_bytes\tblob_bytes\tentries\twhiteouts\topaques\thardlinks\tdiff_id\n'
  cat "$OUT"/.rows-*
} >"$OUT/corpus.tsv.new"
mv "$OUT/corpus.tsv.new" "$OUT/corpus.tsv"
say "done"
