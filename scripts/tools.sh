#!/bin/bash
# tools.sh [SET…]: newer tools than Debian 12's, as independent oracles and peers.
#
#   SET     erofs   erofs-utils 1.9 (mkfs.erofs, fsck.erofs, dump.erofs, erofsfuse): the tests' oracle
#           umoci   umoci 0.6: another oracle
#           containerd-2    containerd 2.1+, ctr, runc and what they call: what tests and benchmarks run and measure against
#           containerd-1.7  the same with containerd 1.7, from trixie; its wrappers end in -1.7
#           default: erofs umoci
#   makes   TOOLS/SET/…   unpacked packages with all their libraries, C library included
#           TOOLS/bin/…   one wrapper a program
#   where   TOOLS is $VENEER_TOOLS, else .cache/tools of the project
#
# Programs that start themselves anew (containerd's shim, runc) do not run by wrapper: test/support/enter-lab.sh shows
# them TOOLS/SET/usr as /usr instead.
#
# From Debian sid ($VENEER_TOOLS_SUITE) if not said otherwise, through this machine's own apt mirror (MIRROR=
# overrides) with a private configuration, so the host never sees that suite.
# No root needed, nothing is installed on the host. A set that is there
# costs nothing; it appears complete or not at all.
set -euo pipefail
export LC_ALL=C
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SUITE=${VENEER_TOOLS_SUITE:-sid}
TOOLS=${VENEER_TOOLS:-$HERE/../.cache/tools}
mkdir -p "$TOOLS/bin"
TOOLS=$(cd "$TOOLS" && pwd)
die() { printf 'tools: %s\n' "$*" >&2; exit 1; }

packages_of() {
  case $1 in
    erofs) echo erofs-utils erofsfuse ;;
    umoci) echo umoci ;;
    containerd-2 | containerd-1.7) echo containerd runc erofs-utils isal ;;
    *) die "no set is called $1; there are: erofs umoci containerd-2 containerd-1.7" ;;
  esac
}
suite_of() { case $1 in containerd-1.7) echo trixie ;; *) echo "$SUITE" ;; esac; }
# Programs of these packages get a wrapper; erofs-utils has its own set.
wrapped_of() { case $1 in containerd-*) echo containerd ;; *) packages_of "$1" ;; esac; }
suffix_of() { case $1 in containerd-1.7) echo -1.7 ;; esac; }
probe_of() { case $1 in erofs) echo mkfs.erofs ;; umoci) echo umoci ;; containerd-*) echo "containerd$(suffix_of "$1")" ;; esac; }
recipe_of() { echo "$(suite_of "$1"): $(packages_of "$1")"; }
# The wrappers hold absolute paths: a folder that was moved counts as missing. So does one of another recipe.
ready() {
  [ "$(cat "$TOOLS/$1/.complete" 2>/dev/null)" = "$(recipe_of "$1")" ] &&
    "$TOOLS/bin/$(probe_of "$1")" --version >/dev/null 2>&1
}

sets=("$@")
[ ${#sets[@]} -gt 0 ] || sets=(erofs umoci)
absent=()
for set in "${sets[@]}"; do
  packages_of "$set" >/dev/null
  ready "$set" || absent+=("$set")
done
[ ${#absent[@]} -gt 0 ] || exit 0

exec 9>"$TOOLS/.lock"
flock 9
work=$TOOLS/.work
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
. "$HERE/private-apt.sh"

for set in "${absent[@]}"; do
  ready "$set" && continue
  apt=$work/apt-$(suite_of "$set")
  private_apt "$apt" "$(suite_of "$set")"
  # shellcheck disable=SC2046
  apt-get -qq -y "${APT[@]}" -o Dpkg::Use-Pty=0 --no-install-recommends --download-only \
    install $(packages_of "$set") >/dev/null
  new=$work/$set
  mkdir "$new"
  for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$new"; done
  loader=$(find "$new/usr" -name 'ld-linux*.so.*' -printf '%P\n' | head -1)
  [ -n "$loader" ] || die "no program loader among the packages of $set"
  libraries=$TOOLS/$set/usr/$(dirname "$loader")
  mkdir "$work/bin"
  for package in $(wrapped_of "$set"); do
    for deb in "$apt/cache/archives/${package}"_*.deb; do
      dpkg-deb -c "$deb" | awk '$1 ~ /^-..x/ && $6 ~ /bin\/[^\/]+$/ { print $6 }' | while read -r program; do
        printf '#!/bin/sh\nexec %s --library-path %s --argv0 "$0" %s "$@"\n' "$TOOLS/$set/usr/$loader" \
          "$libraries" "$TOOLS/$set/${program#./}" >"$work/bin/${program##*/}$(suffix_of "$set")"
        chmod 755 "$work/bin/${program##*/}$(suffix_of "$set")"
      done
    done
  done
  recipe_of "$set" >"$new/.complete"
  rm -rf "${TOOLS:?}/$set"
  mv "$new" "$TOOLS/$set"
  mv -f "$work/bin"/* "$TOOLS/bin/"
  rm -rf "$work/bin" "$apt"/cache/archives/*.deb
  ready "$set" || die "$(probe_of "$set") does not run"
  printf 'tools: %s ready in %s\n' "$set" "$TOOLS" >&2
done
