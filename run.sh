#!/usr/bin/env bash
# Builds Nuncio, boots it and shows what its domains do; `./run.sh --help` says what else it can do.
# It installs what is missing, chooses a toolchain, and hands its arguments to the host tool `nuncio`.
set -euo pipefail

root=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd)
target=x86_64-unknown-none
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
[[ $CARGO_TARGET_DIR == /* ]] || CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR
passed=0 failed=0

help() {
    cat <<'END'
Usage: ./run.sh [OPTIONS]                 install what is missing, build, boot, show what happens
       ./run.sh manifest check|plan FILE  check a manifest, or show its compiled plan
       ./run.sh compare [OPTIONS]         run on several beds and compare what the domains observe
       ./run.sh image OUT.iso [OPTIONS]   write an image that boots on any PC: BIOS and UEFI
       ./run.sh beds                      list the test beds and what they need
       ./run.sh test [--bed NAME] [FILTER]  run every test, those that boot on a bed, or those of a name
       ./run.sh check                     formatting, lints, and the direction of dependencies

Options of a run:
  --input FILE       file that one domain streams to another, 0 bytes to 64 MiB [default: README.md]
  --bed NAME         test bed to run on [default: qemu-svm]
  --manifest FILE    domains and wires to run [default: tools/manifests/stream.toml]
  --timeout SECONDS  time limit; the machine is killed some time after it [default: 120]
  --json FILE        write the report as JSON (keys: tools/README.md)
  --quiet            show the result only: no console lines, no tables
  --verbose          show the hypervisor's log and records too, on standard error
  --count            count instructions: exact and repeatable, but slower; on Bochs always
  --trace            show the calls of each domain in their order
  --images DIR       boot the images in DIR [default: target/x86_64-unknown-none/release]
  --memory MIB       memory of the machine in MiB [default: what the manifest needs, at least 256]
  --cpu MODEL        CPU model of the machine, in the words of the bed [default: the bed's]
  --hypervisor-args WORDS  command line of the hypervisor, such as test=panic

An image takes --input, --manifest, --images and --hypervisor-args; it has no time limit. A comparison
takes them, --timeout, --json, --expected FILE (differences that are no mistakes) and --bed for each
bed; without --bed it takes every bed that is installed.

Examples:
  ./run.sh                                   two domains stream README.md and compute its digest
  ./run.sh --input photo.jpg --json out.json
  ./run.sh --manifest mine.toml --timeout 10 --verbose
  ./run.sh test stream                       the tests with `stream` in their names
  ./run.sh test --bed qemu-svm               the tests that boot on qemu-svm
  ./run.sh image disc.iso --input photo.jpg  a disc that does what the first example does

Exit codes of a run: 0 it worked; 1 a domain failed or the digest is wrong; 2 wrong options, manifest
or file; 3 something is missing or the CPU cannot do it; 4 time limit; 5 the hypervisor broke.

Environment:
  NUNCIO_NO_INSTALL=1  never install anything; say what is missing instead
  NUNCIO_QEMU          the QEMU binary [default: qemu-system-x86_64 on the search path]
  NUNCIO_TOOLCHAIN     installed or debian: which toolchain to use [default: the first that works]
  CARGO_TARGET_DIR     where to build [default: target]
END
}

say() { echo "run.sh: $*" >&2; }
die() {
    say "$*"
    exit 3
}

# quietly WHAT COMMAND...: says what is done only if it takes long, shows the output only if it fails.
# The output stays in $log.
quietly() {
    local what=$1 notice status=0
    shift
    log=$scratch/log
    (sleep 2 >/dev/null 2>&1 && say "$what") &
    notice=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    kill "$notice" 2>/dev/null || true
    wait "$notice" 2>/dev/null || true
    if ((status != 0)); then
        cat "$log" >&2
    fi
    return "$status"
}

# images_cargo COMMAND [ARGUMENT...]: cargo for the images of the hypervisor and the guest kernel.
images_cargo() {
    local command=$1
    shift
    env "${images_environment[@]}" cargo "$command" --release "${images[@]}" "$@"
}

build_images() {
    quietly "building the hypervisor and the guest kernel" images_cargo build ||
        die "the images could not be built; the messages above say why"
}

build_tools() {
    quietly "building the host tool" cargo build "$@" ||
        die "the host tool could not be built; the messages above say why"
}

# step NAME COMMAND...: one step of a check or test; adds what it says to the counts.
step() {
    local name=$1 status=0 good bad
    shift
    quietly "$name" "$@" || status=$?
    read -r good bad < <(awk '/^test result:/ { good += $4; bad += $6 } END { print good + 0, bad + 0 }' "$log")
    if ((good + bad == 0)) && [[ $name != *tests ]]; then
        good=$((status == 0))
    fi
    if ((status != 0 && bad == 0)); then
        bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    echo "$name: $good passed, $bad failed"
}

check() {
    step "formatting" cargo fmt --all --check
    step "lints of the host side" cargo clippy --quiet --workspace --all-targets -- -D warnings
    step "lints of the images" images_cargo clippy --quiet -- -D warnings
}

finish() {
    echo "$passed passed, $failed failed"
    ((failed == 0 && passed > 0))
}

tests() {
    local name="" only=() filter=()
    while (($# > 0)); do
        case $1 in
            --bed) name=${2:?--bed needs a name; ./run.sh beds lists them} && shift ;;
            -*) die "test takes --bed NAME and FILTER, not $1" ;;
            *) filter=("$1") ;;
        esac
        shift
    done
    if [[ -n $name ]]; then
        only=(--bed "$name")
        need_bed "$name"
    else
        need_qemu
        need_bochs
    fi
    # The tests on QEMU boot images, too.
    if [[ $name != bochs-* ]]; then
        need_uefi_image_maker
        need_uefi_firmware
    fi
    need_toolchain lints
    ((${#only[@]} + ${#filter[@]} > 0)) || check
    ((${#only[@]} > 0)) || step "host tests" cargo test --workspace --no-fail-fast "${filter[@]}"
    build_images
    build_tools --workspace --bins
    step "boot tests" "$CARGO_TARGET_DIR/debug/nuncio-boot-tests" "${only[@]}" "${filter[@]}"
    finish
}

# need_beds OPTION...: what the test beds need that the options name, or else the default bed.
need_beds() {
    local name names=()
    while (($# > 0)); do
        case $1 in
            --bed=*) names+=("${1#--bed=}") ;;
            --bed) names+=("${2:-}") ;;
        esac
        shift
    done
    ((${#names[@]} > 0)) || names=(qemu-svm)
    for name in "${names[@]}"; do
        need_bed "$name"
    done
}

# Runs the host tool where the user stands, so that file names mean what they say.
nuncio() {
    local here=$PWD
    need_toolchain
    case ${1:-} in
        manifest | beds) ;;
        *) build_images ;;
    esac
    build_tools -p nuncio-tools
    cd -- "$here"
    rm -rf -- "$scratch"
    exec "$CARGO_TARGET_DIR/debug/nuncio" "$@"
}

# shellcheck source=tools/setup.sh
source "$root/tools/setup.sh"
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
case ${1:-} in
    -h | --help | help) help ;;
    test) shift && tests "$@" ;;
    check)
        need_toolchain lints
        check
        step "direction of dependencies" cargo test --quiet -p nuncio-tests --test structure
        finish
        ;;
    manifest | beds) nuncio "$@" ;;
    image) need_uefi_image_maker && nuncio "$@" ;;
    *) need_beds "$@" && nuncio "$@" ;;
esac
