# Helpers of corpus.sh: sourced, never run. OUT is the corpus, B the build directory of this run.

say() { printf 'corpus: [%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'corpus: %s\n' "$*" >&2; exit 1; }

# The mirrors are whatever this machine's apt uses; no host name stands here.
mirror_of() { # mirror_of RELEASE: the first configured archive with that release name
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk -v want="$1" '$2 == want { print $1; exit }'
}
find_mirrors() {
  MIRROR=${MIRROR:-$(mirror_of bookworm)}
  [ -n "$MIRROR" ] || die "no bookworm archive in apt's sources; set MIRROR"
  SECMIRROR=${SECMIRROR:-$(mirror_of bookworm-security)}
  SECMIRROR=${SECMIRROR:-${MIRROR%/}-security}
  local signed="signed-by=$KEYRING"
  SRC_RELEASE="deb [$signed] $MIRROR bookworm main"
  SRC_FULL="$SRC_RELEASE
deb [$signed] $MIRROR bookworm-updates main
deb [$signed] $SECMIRROR bookworm-security main"
}

need() { # need PACKAGE...: install what is missing, when root
  local missing=() package
  for package in "$@"; do
    case $package in # a tool that came another way is as good
      npm) command -v npm >/dev/null && continue ;;
      python3) command -v python3 >/dev/null && continue ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null 2>&1 && return 0
  apt-get -qq update
  apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

inroot() { # inroot ROOT COMMAND...: run inside the tree, with a clean environment
  local root=$1
  shift
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC DEBIAN_FRONTEND=noninteractive \
    SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" chroot "$root" "$@" 2>>"$B/inroot.log" || { tail -20 "$B/inroot.log" >&2; return 1; }
}

aptin() { # aptin ROOT ARGUMENTS...: apt runs outside (network, keys), dpkg runs inside the tree
  local root=$1
  shift
  printf '%s\n' "$SRC_FULL" >"$B/sources.list"
  {
    cat <<END
Dir "$root";
DPkg::Chroot-Directory "$root";
Dir::Etc::Trusted "/etc/apt/trusted.gpg"; Dir::Etc::TrustedParts "/etc/apt/trusted.gpg.d";
Dir::Etc::SourceList "$B/sources.list"; Dir::Etc::SourceParts "/dev/null"; Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Bin::Methods "/usr/lib/apt/methods"; Dir::Bin::Solvers:: "/usr/lib/apt/solvers";
Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false"; Acquire::Languages "none";
APT::Install-Recommends "false"; APT::Sandbox::User "root"; Dpkg::Use-Pty "false"; quiet "2";
DPkg::Options:: "--force-unsafe-io"; Binary::apt-get::APT::Keep-Downloaded-Packages "false";
END
    apt-config dump | grep -iE '^Acquire::[a-z]+::proxy ' || true
  } >"$B/apt.conf"
  mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
  APT_CONFIG="$B/apt.conf" apt-get -y "$@" >>"$B/apt.log" 2>&1 || { tail -20 "$B/apt.log" >&2; return 1; }
}
apt_clean() { rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb; }
apt_layer() { # apt_layer ROOT ARGUMENTS...: one `RUN apt-get …`
  aptin "$1" update
  aptin "$@"
  apt_clean "$1"
}

slim_rules() { # what the -slim images leave out
  mkdir -p "$1/etc/dpkg/dpkg.cfg.d"
  cat >"$1/etc/dpkg/dpkg.cfg.d/docker-slim" <<'END'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
END
}

debootstrap_slim() { # debootstrap_slim DEST SOURCES [PACKAGES]: a slim Debian tree
  local dest=$1 rules=$B/slim
  slim_rules "$rules"
  mmdebstrap --quiet --mode=root --variant=minbase --keyring="$KEYRING" --include="usr-is-merged${3:+,$3}" \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt="$rules/etc/dpkg/dpkg.cfg.d/docker-slim" \
    bookworm "$dest" - <<<"$2" 2>>"$B/mmdebstrap.log" || { tail -20 "$B/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
  printf '#!/bin/sh\nexit 101\n' >"$dest/usr/sbin/policy-rc.d"
  chmod 755 "$dest/usr/sbin/policy-rc.d"
  rm -f "$dest"/etc/apt/apt.conf.d/99mmdebstrap "$dest"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
  slim_rules "$dest"
  rm -rf "$dest"/etc/apt/sources.list.d/*
  : >"$dest/etc/apt/sources.list"
}

base_tree() { # the Debian tree that images start from: made once per run
  [ -d "$B/base" ] && return 0
  need "${BUILD_PACKAGES[@]}"
  find_mirrors
  say "base tree"
  debootstrap_slim "$B/base" "$SRC_FULL"
}

start_image() { # start_image IMAGE: R = a copy of the base tree, layer 00 = the base
  base_tree
  R=$B/$1
  rm -rf "$R" "$R.state" "${OUT:?}/tars/$1"
  cp -a "$B/base" "$R"
  H=()
  add_layer "$1" "debian base"
}
add_layer() { # add_layer IMAGE HISTORY: what changed in R since the last call becomes the next layer
  local number
  number=$(printf %02d "$(find "$OUT/tars/$1" -name '*.tar' 2>/dev/null | wc -l)")
  mkdir -p "$OUT/tars/$1"
  python3 "$LIB/oci.py" layer "$R" "$R.state" "$OUT/tars/$1/$number.tar" "$((10#$number))"
  local debian=$OUT/tars/debian/00.tar tar=$OUT/tars/$1/$number.tar
  if [ "$number" = 00 ] && [ "$1" != debian ] && cmp -s "$debian" "$tar"; then ln -f "$debian" "$tar"; fi
  H+=("$2")
}
write_image() { # write_image NAME TARS-OF COMPRESSION CONFIG-JSON: history is H
  say "$1: $3"
  mkdir -p "$OUT/oci"
  python3 - "$OUT" "$@" "${H[@]}" <<'END' | python3 "$LIB/oci.py" image
import glob, json, sys
out, name, tars, compression, config, *history = sys.argv[1:]
print(json.dumps({
    "layout": f"{out}/oci/{name}", "name": name, "compression": compression, "config": json.loads(config),
    "tars": sorted(glob.glob(f"{out}/tars/{tars}/*.tar")), "history": history, "rows": f"{out}/.rows-{name}",
}))
END
}
replace_dir() { # replace_dir FROM TO: the new one exists before the old one goes, so that the inode differs
  cp -a "$1" "$2.new"
  rm -rf "$2"
  mv "$2.new" "$2"
}
PATH_ENV='"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'
