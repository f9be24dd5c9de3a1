#!/bin/sh
# run.sh JOB [ARGUMENTS]: sets up what a job needs, says what it does, and does the job.
#
#   check    formatter, types, layer test, unit tests
#   test     check, everything that spans rooms, mounts on one other kernel; with arguments: just these test files
#   corpus   the tests on all real images
#   containerd  the tests of the snapshotter, and with real containerd, 2.1 and 1.7; with arguments: just these test files
#   vm       the tests on other kernels, under QEMU; with arguments: just these test files
#   bench    side-by-side benchmarks into docs/benchmarks.md
#   demo     pull, mount and read a real image (or the one given)
#   demo-delta  a new version as a delta: bytes sent, bytes stored, both mounted
#   build    dist/ only
#
# Works on a fresh clone with git, npm and Node 20 or newer: Node packages come from npm
# (with them a Node 24), Debian packages from apt when this is root. A second run finds
# everything there and begins at once.
set -eu
cd "$(dirname "$0")/.."
job=${1:?"usage: scripts/run.sh check|test|corpus|containerd|vm|bench|demo|demo-delta|build"}
shift
PATH=$PWD/node_modules/.bin:$PATH
export PATH

say() { printf 'veneer: %s\n' "$*" >&2; }

# npm writes its own copy of the lock file last, so an older one means an install that is outdated or broke off.
ensure_modules() {
  done_file=node_modules/.package-lock.json
  if [ -f "$done_file" ] && ! [ package-lock.json -nt "$done_file" ]; then return; fi
  say "installing Node packages (npm ci)"
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  touch "$done_file"
}

ensure_packages() {
  wanted=$(sed -n "s/^$1: //p" scripts/packages.txt)
  missing=
  for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "not installed:$missing (tests that need them are skipped; as root they are installed here)"
    return 0
  fi
  say "installing Debian packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  set -- -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install $missing
  # The package lists may be missing or too old for the mirror.
  apt-get "$@" >/dev/null 2>&1 || { apt-get -qq update >&2 && apt-get "$@" >/dev/null; }
  # Debian starts a registry of its own at once; the tests start theirs.
  case $missing in
    *docker-registry*) if [ -d /run/systemd/system ]; then systemctl disable --now docker-registry >/dev/null 2>&1 || true; fi ;;
  esac
}

# The command line and its worker threads as one file each: loading a hundred modules takes longer than most commands.
# CommonJS, because its modules are run when they are first asked for. What only the daemon needs stands in files of its
# own: the command line's is read at every start. docs/decisions/0011, 0096.
bundle() {
  set -- --bundle --format=cjs --platform=node --target=node24 --outdir=dist/program --out-extension:.js=.cjs \
    --minify-whitespace --minify-syntax --legal-comments=eof --log-level=warning
  esbuild grpc-js=@grpc/grpc-js prom-client "$@"
  esbuild src/cli/main.ts src/store/ingest-worker.ts src/store/merge-worker.ts src/cli/side-worker.ts \
    src/rootfs/inflate-worker.ts src/rootfs/write-worker.ts src/bundle/hash-worker.ts src/delta-image/match-worker.ts "$@" \
    --entry-names='[name]' --conditions=veneer-source --external:koffi '--external:./*.cjs' \
    --alias:@grpc/grpc-js=./grpc-js.cjs --alias:prom-client=./prom-client.cjs \
    --define:import.meta.url=SELF --banner:js='const SELF = require("node:url").pathToFileURL(__filename).href;'
  load_later dist/program/main.cjs
}

# Node's modules that take milliseconds to load are loaded when something of theirs is first used, not where they are named.
load_later() {
  later='const later = (name) => { let found; return new Proxy({}, { get: (_, key) => (found ??= require(name))[key] }); };'
  sed -i -E -e "1s|^|$later|" -e 's#require\("node:(crypto|zlib|child_process|worker_threads|fs/promises)"\)#later("node:\1")#g' "$1"
}

ensure_build() {
  stamp=dist/.built
  if [ -f "$stamp" ] && [ -z "$(find src scripts/run.sh package.json package-lock.json tsconfig.json tsconfig.build.json -newer "$stamp" -print -quit)" ]; then
    return
  fi
  say "building dist/"
  rm -rf dist
  mkdir dist
  # The stamp is made first: what changes while the compiler runs is newer.
  : >dist/.building
  tsc -p tsconfig.build.json
  bundle
  mv dist/.building "$stamp"
}

# Oracles and images that cannot be had are skipped by the tests with the reason; in CI they fail there.
try() { "$@" || say "could not run: $*"; }

# One step of several: the others still run when it fails, and the job fails in the end.
failed=
step() {
  say "$1"
  name=$1
  shift
  "$@" || failed="$failed, $name"
}

finish() {
  if [ -z "$failed" ]; then exit 0; fi
  say "failed: ${failed#, }"
  exit 1
}

run_check() {
  # Without a terminal biome would still colour its report.
  if [ -t 1 ]; then colors=force; else colors=off; fi
  step "formatter and linter" biome ci "--colors=$colors" --diagnostic-level=warn \
    bin examples scripts src test package.json tsconfig.json tsconfig.build.json biome.json
  step types tsc --noEmit
  step "layer test and unit tests" node --test test/layers.test.ts 'src/**/*.test.ts'
}

# Test files below test/, NUL-separated, in a stable order; the arguments narrow `find` down.
test_files() { find test -name '*.test.ts' "$@" -print0 | sort -z; }

span_tests() {
  test_files ! -path test/layers.test.ts ! -path 'test/corpus/*' ! -path 'test/containerd/*' ! -path 'test/bench/*' ! -path 'test/vm/*' |
    xargs -0r node --test --test-concurrency=2
}

corpus_tests() { test_files -path 'test/corpus/*' | xargs -0r node --test --test-concurrency=1; }

containerd_tests() { test_files -path 'test/containerd/*' | xargs -0r node --test --test-concurrency=2; }

vm_tests() { test_files -path 'test/vm/*' | xargs -0r node --test --test-concurrency=2; }

# The newest kernel only: test files skip the others (test/support/vm.ts).
quick_vm_tests() { VENEER_VM_KERNELS=sid node --test --test-concurrency=2 test/vm/mount.test.ts test/vm/udf.test.ts; }

ensure_modules
# Tests run from source: what Node makes of it is kept, or each of hundreds of processes and threads would make it anew.
case $job in
  check | test | corpus | containerd | vm)
    NODE_COMPILE_CACHE=$PWD/.cache/compiled
    export NODE_COMPILE_CACHE
    ;;
esac
case $job in
  build)
    ensure_build
    ;;
  check)
    run_check
    finish
    ;;
  test)
    ensure_packages test
    ensure_build
    VENEER_BUILT=1
    export VENEER_BUILT
    if [ $# -gt 0 ]; then exec node --test "$@"; fi
    try scripts/tools.sh
    if [ "$(id -u)" = 0 ]; then try scripts/corpus.sh debian layered; fi
    run_check
    step "tests that span rooms" span_tests
    try test/vm/setup.sh sid
    step "tests in a virtual machine" quick_vm_tests
    finish
    ;;
  corpus)
    ensure_packages corpus
    ensure_build
    try scripts/tools.sh
    try scripts/corpus.sh
    VENEER_BUILT=1
    export VENEER_BUILT
    step "tests on real images" corpus_tests
    finish
    ;;
  containerd)
    ensure_packages containerd
    ensure_build
    try scripts/tools.sh containerd-2 containerd-1.7
    if [ "$(id -u)" = 0 ]; then try scripts/corpus.sh debian layered; fi
    VENEER_BUILT=1
    export VENEER_BUILT
    if [ $# -gt 0 ]; then exec node --test "$@"; fi
    step "tests with containerd" containerd_tests
    finish
    ;;
  vm)
    ensure_packages test
    ensure_build
    try test/vm/setup.sh bookworm bpo sid
    if [ "$(id -u)" = 0 ]; then try scripts/corpus.sh debian wordpressish; fi
    VENEER_BUILT=1
    export VENEER_BUILT
    if [ $# -gt 0 ]; then exec node --test "$@"; fi
    step "tests in virtual machines" vm_tests
    finish
    ;;
  bench)
    ensure_packages bench
    ensure_build
    scripts/tools.sh erofs umoci containerd-2
    scripts/corpus.sh node-app wordpressish
    node test/bench/run.ts "$@"
    ;;
  demo)
    ensure_packages demo
    ensure_build
    if [ $# -eq 0 ] && [ "$(id -u)" = 0 ]; then scripts/corpus.sh debian; fi
    exec node scripts/demo.ts "$@"
    ;;
  demo-delta)
    ensure_packages demo
    ensure_build
    if [ $# -eq 0 ] && [ "$(id -u)" = 0 ]; then scripts/corpus.sh debian-v1 debian-v2; fi
    exec node scripts/demo-delta.ts "$@"
    ;;
  *)
    say "there is no job called $job"
    exit 2
    ;;
esac
