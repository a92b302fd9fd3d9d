# shellcheck shell=bash
# Sourced by run.sh: installs what is missing and chooses the Rust toolchain.
#
# From run.sh: say, die, $root, $scratch, $target. To run.sh: need_bed, need_image_maker,
# need_uefi_firmware, need_toolchain, and what a build of the images takes: the arrays images (arguments of cargo) and images_environment.
# shellcheck disable=SC2154,SC2034 # what is shared with run.sh

images=(-p nuncio-hypervisor -p nuncio-guest-kernel -p nuncio-hello -p nuncio-ring --features bare-metal --target "$target")
images_environment=()

# install WHY PACKAGE...
install() {
    local why=$1 as_root=()
    shift
    if [[ ${NUNCIO_NO_INSTALL:-0} == 1 ]]; then
        die "$why, and NUNCIO_NO_INSTALL=1 forbids to install it; run: apt-get install $*"
    fi
    command -v apt-get >/dev/null || die "$why, and there is no apt-get to install it with; install what provides $*"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "$why; run as root: apt-get install $*"
        as_root=(sudo)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    say "$why: installing $*"
    log=$scratch/install
    # The list of packages may be missing or old; without a network an old one may still do.
    "${apt[@]}" update >"$log" 2>&1 || true
    "${apt[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        die "$why, and it could not be installed: $(tail -n 1 "$log"); run: apt-get install $*"
}

need_qemu() {
    local qemu=${NUNCIO_QEMU:-qemu-system-x86_64}
    command -v "$qemu" >/dev/null && return
    [[ -z ${NUNCIO_QEMU:-} ]] || die "NUNCIO_QEMU names $qemu, which is not there; name a QEMU binary or unset it"
    install "QEMU (qemu-system-x86_64) is not installed" qemu-system-x86
}

# need_command COMMAND WHY PACKAGE...: installs the packages unless there is such a command.
need_command() {
    local command=$1
    shift
    command -v "$command" >/dev/null || install "$@"
}

need_bochs() {
    need_command bochs "Bochs is not installed" bochs bochs-term bochsbios vgabios
}

# What makes a bootable image of the files, for BIOS and UEFI.
need_image_maker() {
    need_command grub-mkrescue "GRUB's tools are not installed" grub-common grub-pc-bin xorriso mtools
    need_command xorriso "xorriso is not installed" xorriso
    need_command mformat "mtools are not installed" mtools
    [[ -d /usr/lib/grub/i386-pc || -d /usr/lib/grub/x86_64-efi ]] ||
        install "GRUB's files are not installed" grub-pc-bin
}

need_uefi_image_maker() {
    need_image_maker
    [[ -d /usr/lib/grub/x86_64-efi ]] || install "GRUB's files for UEFI are not installed" grub-efi-amd64-bin
}

need_uefi_firmware() {
    compgen -G "/usr/share/OVMF/OVMF_CODE*.fd" >/dev/null || install "UEFI firmware (OVMF) is not installed" ovmf
}

# need_bed NAME: what a test bed needs. The host tool has more to say of a name that is wrong.
need_bed() {
    case $1 in
        bochs-*) need_bochs && need_image_maker ;;
        *) need_qemu ;;
    esac
}

# is_new_enough RUSTC: whether it is at least the rust-version of Cargo.toml.
is_new_enough() {
    local have want
    have=$("$1" --version 2>/dev/null) || return 1
    have=${have#rustc }
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    [[ $(printf '%s\n' "$want" "${have%% *}" | sort -V | head -n 1) == "$want" ]]
}

has_target() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$target" 2>/dev/null) &&
        compgen -G "$libraries/libcore-*.rlib" >/dev/null
}

installed_toolchain_works() {
    command -v cargo >/dev/null && command -v rustc >/dev/null && is_new_enough rustc || return 1
    has_target && return
    command -v rustup >/dev/null || return 1
    say "adding the target $target to the Rust toolchain"
    timeout 300 rustup target add "$target" >/dev/null 2>&1 && has_target
}

# Debian's packages bring the standard library as source; it is built along with the images.
use_debian_toolchain() {
    local packages=(rustc-web cargo-web rust-web-src lld ca-certificates) missing=() name
    [[ ${1:-} != lints ]] || packages+=(rustfmt-web rust-web-clippy)
    for name in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q ' installed$' || missing+=("$name")
    done
    # An installed one that is too old is upgraded.
    is_new_enough /usr/bin/rustc || missing=("${packages[@]}")
    ((${#missing[@]} == 0)) || install "what builds for $target is missing" "${missing[@]}"
    is_new_enough /usr/bin/rustc ||
        die "Debian's rustc is too old; add the security updates to the sources of apt, or install Rust with rustup"
    export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc
    images_environment=(RUSTC_BOOTSTRAP=1 CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER=ld.lld)
    # shellcheck disable=SC2054 # the commas belong to cargo
    images+=(-Zbuild-std=core,alloc,compiler_builtins -Zbuild-std-features=compiler-builtins-mem)
}

# need_toolchain [lints]
need_toolchain() {
    case ${NUNCIO_TOOLCHAIN:-any} in
        debian) use_debian_toolchain "$@" ;;
        installed) installed_toolchain_works || die "the installed Rust toolchain cannot build for $target; see --help" ;;
        any) installed_toolchain_works || use_debian_toolchain "$@" ;;
        *) die "NUNCIO_TOOLCHAIN is installed or debian, not $NUNCIO_TOOLCHAIN" ;;
    esac
    command -v cc >/dev/null || install "there is no C compiler to link with" gcc libc6-dev
    cd -- "$root" || exit
}
