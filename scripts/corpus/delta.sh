# debian-v1, debian-v2: the same packages before and after a round of updates.
DELTA_PACKAGES=ca-certificates,curl,git,gnupg,nginx-light,openssh-client,openssl,perl,python3,python3-venv,sudo,vim-tiny,xz-utils,krb5-user,libglib2.0-0,libxml2,postgresql-client,php8.2-cli,nodejs,ghostscript

delta_image() { # delta_image NAME SOURCES
  R=$B/$1
  debootstrap_slim "$R" "$2" "$DELTA_PACKAGES"
  rm -rf "${OUT:?}/tars/$1"
  H=()
  add_layer "$1" "debian ${1#debian-}"
  write_image "$1" "$1" gzip "{\"Env\":[$PATH_ENV],\"Cmd\":[\"bash\"]}"
  rm -rf "$R"
}
make_debian_v1() { need "${BUILD_PACKAGES[@]}"; find_mirrors; delta_image debian-v1 "$SRC_RELEASE"; }
make_debian_v2() { need "${BUILD_PACKAGES[@]}"; find_mirrors; delta_image debian-v2 "$SRC_FULL"; }
