# private_apt DIR SUITE: sourced, never run. Sets APT to the options with which apt-get and apt-cache see one
# Debian suite and nothing of the host's, with all their files below DIR, and fetches its package list
# the first time.
# The archive is the one this machine's apt uses; MIRROR= overrides. apt checks the signatures; no root needed.

private_apt() {
  local dir=$1 suite=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e "$keyring" ] || { echo "apt: needs the package debian-archive-keyring" >&2; return 1; }
  mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 ~ /^(bookworm|trixie|forky|sid|stable|testing|unstable)$/ { print $1; exit }')}
  [ -n "$mirror" ] || { echo "apt: no Debian archive in this machine's sources; set MIRROR" >&2; return 1; }
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  printf '%s\n' 'Types: deb' "URIs: $mirror" "Suites: $suite" 'Components: main' \
    "Architectures: $(dpkg --print-architecture)" "Signed-By: $keyring" >"$dir/debian.sources"
  # An empty status file: apt then takes the C library along instead of trusting the host's.
  APT=(-o "Dir::Etc::sourcelist=$dir/debian.sources" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o Dir::State::status=/dev/null
    -o "Dir::State::extended_states=$dir/extended" -o "Dir::Log=$dir" -o "APT::Sandbox::User=$(id -un)"
    -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Get::AllowUnauthenticated=false)
  [ -e "$dir/updated" ] || { apt-get -qq "${APT[@]}" update >&2 && : >"$dir/updated"; }
}
