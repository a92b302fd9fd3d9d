#!/usr/bin/env bash
# Builds Nuncio, boots it and shows what its domains do; `./run.sh --help` says what else it can do.
# It installs what is missing, chooses a toolchain, and hands its arguments to the host tool `nuncio`.
set -euo pipefail

root=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd)
target=x86_64-unknown-none
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
[[ $CARGO_TARGET_DIR == /* ]] || CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR
passed=0 failed=0
# The JUnit report, the program that writes it (once it is built), and how many stages it has.
junit='' reporter='' stages=0

help() {
    cat <<'END'
Usage: ./run.sh [OPTIONS]                 install what is missing, build, boot, show what happens
       ./run.sh manifest check|plan FILE  check a manifest, or show its compiled plan
       ./run.sh compare [OPTIONS]         run on several beds and compare what the domains observe
       ./run.sh soak [OPTIONS]            make, message and kill domains at random: is anything lost?
       ./run.sh costs [--json FILE]       what calls cost on both vendors, beside KVM and NOVA
       ./run.sh kernel [OPTIONS] [WORDS]  boot the guest kernel without Nuncio, with this command line
       ./run.sh backends [--json FILE]    which backend serves the guest kernel, in each place
       ./run.sh image OUT.iso [OPTIONS]   write an image that boots on any PC: BIOS and UEFI
       ./run.sh abi header|describe|...   the guest ABI: its C header, what a call means
       ./run.sh beds                      list the test beds and what they need
       ./run.sh test [OPTIONS] [FILTER]   run every test, or those with FILTER in their names
       ./run.sh check                     formatting, lints, and the direction of dependencies
       ./run.sh fuzz [TARGET] [--seconds N]  look for bytes that break a parser, with libFuzzer

Options of a run:
  --input FILE       file that one domain streams to another, 0 bytes to 64 MiB [default: README.md]
  --bed NAME         test bed to run on [default: kvm if this host can and nothing is counted,
                     else qemu-svm]
  --manifest FILE    domains and wires to run [default: tools/manifests/stream.toml]
  --timeout SECONDS  time limit; the machine is killed some time after it [default: 120]
  --json FILE        write the report as JSON (keys: tools/README.md)
  --quiet            show the result only: no console lines, no tables
  --verbose          show the hypervisor's log and records too, on standard error
  --count            count instructions: exact and repeatable, but slower; on Bochs always, on
                     kvm never
  --trace            show the calls of each domain in their order
  --images DIR       boot the images in DIR [default: target/x86_64-unknown-none/release]
  --memory MIB       memory of the machine in MiB [default: what the manifest needs, at least 256]
  --cpus N           CPUs of the machine, 1 to 256 [default: what the manifest says, else 1]
  --cpu MODEL        CPU model of the machine, in the words of the bed [default: the bed's]
  --hypervisor-args WORDS  command line of the hypervisor, such as test=panic

Options of a test:
  --bed NAME         only the tests that boot on this bed; may be given several times
  --junit FILE       write a JUnit report, too: host tests, lints, builds, boot tests

The targets of fuzz are call, message, manifest, plan, image and boot; without TARGET each has its
turn, of 60 seconds if --seconds does not say otherwise. What libFuzzer finds stays in target/fuzz.

An image takes --input, --manifest, --images and --hypervisor-args; it has no time limit. A comparison
takes them, --timeout, --json, --expected FILE (differences that are no mistakes) and --bed for each
bed; without --bed it takes every installed bed that counts.

A soak takes --minutes N [default: 10] or --seconds N, --seed N, --cpus N [default: 4], --bed NAME,
--count, --json FILE and --images DIR.

A kernel takes --host qemu, bochs or kvm [default: qemu], --machine pc or q35 [default: pc on bochs, else q35], --cpus N,
--memory MIB [default: 256], --timeout SECONDS [default: 60], --json FILE and --images DIR.

Examples:
  ./run.sh                                   two domains stream README.md and compute its digest
  ./run.sh --input photo.jpg --json out.json
  ./run.sh --manifest mine.toml --timeout 10 --verbose
  ./run.sh test stream                       the tests with `stream` in their names
  ./run.sh test --bed qemu-svm --bed bochs-svm faults::   what guests may do wrong, on two beds
  ./run.sh test --junit report.xml           every test, with a report for a CI system
  ./run.sh kernel --host bochs -- log=info   the guest kernel says hello on bare metal
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

# quietly KIND WHAT COMMAND...: says what is done only if it takes long, shows the output only if it
# fails. The output stays in $log. KIND (check, build, host, boot) is for the report: with WHAT in
# $scratch/running until it has ended, then as a line of $scratch/stages (tests/src/junit/stage.rs).
quietly() {
    local kind=$1 what=$2 notice status=0 start=${EPOCHREALTIME/[.,]/}
    shift 2
    log=$scratch/log
    printf '%s\t%s\n' "$kind" "$what" >"$scratch/running"
    (sleep 2 >/dev/null 2>&1 && say "$what") &
    notice=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    kill "$notice" 2>/dev/null || true
    wait "$notice" 2>/dev/null || true
    if ((status != 0)); then
        cat "$log" >&2
    fi
    if [[ -n $junit ]]; then
        stages=$((stages + 1))
        cp -- "$log" "$scratch/log-$stages"
        printf '%s\t%s\t%s\t%s\t%s\n' "$kind" "$status" "$((${EPOCHREALTIME/[.,]/} - start))" \
            "$scratch/log-$stages" "$what" >>"$scratch/stages"
    fi
    rm -- "$scratch/running"
    return "$status"
}

# images_cargo COMMAND [ARGUMENT...]: cargo for the images of the hypervisor and the guest kernel.
images_cargo() {
    local command=$1
    shift
    env "${images_environment[@]}" cargo "$command" "${images[@]}" "$@"
}

build_images() {
    quietly build "building the hypervisor and the guest kernel" images_cargo build --release ||
        die "the images could not be built; the messages above say why"
    quietly build "building the guest in C" "$root/guest-abi/examples/hello-c/build.sh" \
        "$CARGO_TARGET_DIR/$target/release/nuncio-hello-c" ||
        die "the guest in C could not be built; the messages above say why"
}

# With assertions, in a directory of their own beside the others.
build_checked_images() {
    quietly build "building the images with assertions" images_cargo build --profile checked ||
        die "the images with assertions could not be built; the messages above say why"
}

build_tools() {
    quietly build "building the host tool" cargo build "$@" ||
        die "the host tool could not be built; the messages above say why"
}

# step KIND NAME COMMAND...: one step of a check or test; adds what it says to the counts.
step() {
    local kind=$1 name=$2 status=0 good bad ignored
    shift 2
    quietly "$kind" "$name" "$@" || status=$?
    read -r good bad ignored < <(awk '/^test result:/ { good += $4; bad += $6; ignored += $8 }
        END { print good + 0, bad + 0, ignored + 0 }' "$log")
    if ((good + bad == 0)) && [[ $kind == check ]]; then
        good=$((status == 0))
    fi
    if ((status != 0 && bad == 0)); then
        bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    if ((ignored > 0)); then
        echo "$name: $good passed, $bad failed, $ignored ignored"
    else
        echo "$name: $good passed, $bad failed"
    fi
    # Beds that this host cannot run.
    ((status != 0)) || grep '^not run: ' "$log" || true
}

check() {
    step check "formatting" cargo fmt --all --check
    step check "lints of the host side" cargo clippy --quiet --workspace --all-targets -- -D warnings
    step check "lints of the images" images_cargo clippy --release --quiet -- -D warnings
    step check "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --no-deps -p nuncio-abi
    # As it would be published: it must build from what the package has.
    step check "package of the ABI" cargo package --quiet --offline --allow-dirty -p nuncio-abi
}

finish() {
    echo "$passed passed, $failed failed"
    ((failed == 0 && passed > 0))
}

tests() {
    local beds=() only=() filter=() recorded=() name
    while (($# > 0)); do
        case $1 in
            --bed=*) beds+=("${1#*=}") ;;
            --bed) beds+=("${2:-}") && shift ;;
            --junit=*) start_report "${1#*=}" ;;
            --junit) start_report "${2:-}" && shift ;;
            -*) wrong "test takes --bed NAME, --junit FILE and FILTER, not $1" ;;
            *) ((${#filter[@]} == 0)) || wrong "test takes one FILTER, not ${filter[0]} and $1"
                filter=("$1") ;;
        esac
        shift || wrong "--bed and --junit need a value; see ./run.sh --help"
    done
    for name in "${beds[@]}"; do
        [[ $name =~ ^[a-z] ]] || wrong "--bed needs the name of a test bed; ./run.sh beds lists them"
        only+=(--bed "$name")
        need_bed "$name"
    done
    if ((${#beds[@]} == 0)); then
        need_qemu
        need_bochs
    fi
    # The tests on QEMU boot images, too.
    if ((${#beds[@]} == 0)) || [[ " ${beds[*]}" == *" "[!b]* ]]; then
        need_uefi_image_maker
        need_uefi_firmware
    fi
    need_toolchain lints
    if [[ -n $junit ]]; then
        build_tools -p nuncio-tests --bin nuncio-junit
        reporter=$CARGO_TARGET_DIR/debug/nuncio-junit
        recorded=(--record "$scratch/boot-tests")
    fi
    ((${#only[@]} + ${#filter[@]} > 0)) || check
    # With one thread, libtest prints each result in two pieces, and other output may come between.
    # A filter before the two dashes would have cargo run unit tests of crates that have none of their own.
    ((${#only[@]} > 0)) ||
        step host "host tests" env RUST_TEST_THREADS="$(threads)" \
            CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$limited" \
            cargo test --workspace --no-fail-fast -- "${filter[@]}"
    build_images
    build_checked_images
    build_tools --workspace --bins
    local boot=$CARGO_TARGET_DIR/debug/nuncio-boot-tests
    # It says in one line what is wrong with the name of a bed.
    "$boot" --list "${only[@]}" >/dev/null || exit
    step boot "boot tests" "$boot" "${recorded[@]}" "${only[@]}" "${filter[@]}"
    finish
}

# A program of tests that hangs ends after this; it has named the test that runs for more than a minute. It
# stays in the foreground, where Ctrl-C reaches it.
limited="timeout --foreground --kill-after=10 20m"

# At least two.
threads() {
    local processors
    processors=$(nproc)
    echo "$((processors > 1 ? processors : 2))"
}

# The counters by which libFuzzer sees which code an input reaches; stable compilers have them, too.
fuzz_flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"

# fuzz [TARGET] [--seconds N]: stops at the first input that breaks a target, which it keeps.
fuzz() {
    local seconds=60 names=() name folder host
    while (($# > 0)); do
        case $1 in
            --seconds=*) seconds=${1#*=} ;;
            --seconds) seconds=${2:-} && shift ;;
            -*) wrong "fuzz takes a target and --seconds N, not $1" ;;
            *) names+=("$1") ;;
        esac
        shift || wrong "--seconds needs a number"
    done
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || wrong "--seconds needs a number of seconds, not '$seconds'"
    ((${#names[@]} > 0)) || names=(call message manifest plan image boot)
    need_toolchain
    host=$(rustc -vV | awk '/^host:/ { print $2 }')
    # A target is named, so that the flags are not for build scripts and procedural macros.
    quietly build "building the fuzz targets" env RUSTFLAGS="$fuzz_flags" \
        CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz" \
        cargo build --profile fuzz --target "$host" -p nuncio-fuzz --features libfuzzer ||
        die "the fuzz targets could not be built; the messages above say why (libFuzzer needs a C++ compiler)"
    for name in "${names[@]}"; do
        folder=$CARGO_TARGET_DIR/fuzz/corpus/$name
        mkdir -p -- "$folder"
        echo "$name: $seconds s"
        NUNCIO_FUZZ_TARGET=$name NUNCIO_FUZZ_CORPUS=$folder \
            "$CARGO_TARGET_DIR/fuzz/$host/fuzz/nuncio-fuzz" "$folder" \
            -artifact_prefix="$CARGO_TARGET_DIR/fuzz/$name-" -max_total_time="$seconds" \
            -max_len=16384 -verbosity=0 -print_final_stats=1 ||
            die "the target $name broke; put the input into tests/fuzz/regressions/$name/ when it is mended"
    done
}

wrong() {
    say "$*"
    exit 2
}

# start_report FILE: from here on there is a report, whatever happens. Until the run has ended it
# says that the run has not.
start_report() {
    [[ -n $1 ]] || wrong "--junit needs the name of a file to write"
    [[ -z $junit ]] || wrong "--junit is given twice; one report has it all"
    junit=$1
    [[ $junit == /* ]] || junit=$PWD/$junit
    { cat >"$junit"; } 2>/dev/null <<'END' || wrong "cannot write $junit; name a file that can be written after --junit"
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nuncio" tests="1" failures="0" errors="1">
  <testsuite name="run.sh" tests="1" failures="0" errors="1">
    <testcase name="run.sh" classname="run.sh">
      <error message="run.sh ended before it could write its report; its output says why"/>
    </testcase>
  </testsuite>
</testsuites>
END
}

# The last thing that a run does, however it ends; with a report that cannot be written it has failed.
leave() {
    local status=$?
    if [[ -n $reporter ]] && ! "$reporter" --status "$status" "$scratch" "$junit"; then
        status=$((status == 0 ? 1 : status))
    fi
    rm -rf -- "$scratch"
    exit "$status"
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

# need_host OPTION...: what the emulator needs that a run of the kernel alone names.
need_host() {
    if [[ " $* " =~ \ --host[=\ ]bochs\  ]]; then
        need_bed bochs-svm
    else
        need_bed qemu-svm
    fi
}

# Runs the host tool where the user stands, so that file names mean what they say.
nuncio() {
    local here=$PWD
    need_toolchain
    case ${1:-} in
        manifest | beds | abi) ;;
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
trap leave EXIT
case ${1:-} in
    -h | --help | help) help ;;
    test) shift && tests "$@" ;;
    check)
        need_toolchain lints
        check
        step check "direction of dependencies" cargo test --quiet -p nuncio-tests --test structure
        finish
        ;;
    manifest | beds | abi) nuncio "$@" ;;
    fuzz) shift && fuzz "$@" ;;
    costs) need_beds --bed qemu-svm --bed bochs-vmx-min && nuncio "$@" ;;
    backends) need_beds --bed qemu-svm --bed bochs-vmx && nuncio "$@" ;;
    kernel) need_host "$@" && nuncio "$@" ;;
    image) need_uefi_image_maker && nuncio "$@" ;;
    *) need_beds "$@" && nuncio "$@" ;;
esac
