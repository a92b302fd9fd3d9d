#!/usr/bin/env bash
# Builds the guest in C: `build.sh OUT`. CC is the compiler, gcc or clang [default: cc].
set -euo pipefail

here=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd)
# A call writes below the stack pointer, so there must be no red zone. The guest has no library: no
# loop may become a call of memset or strlen.
exec "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror \
    -ffreestanding -fno-builtin -mno-red-zone -fno-stack-protector -fcf-protection=none \
    -fno-asynchronous-unwind-tables -fno-pic -no-pie -static -nostdlib \
    -I"$here/../../include" -Wl,-T,"$here/../guest.ld" -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
    -o "$1" "$here/hello.c"
