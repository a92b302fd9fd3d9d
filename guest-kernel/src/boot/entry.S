// Where loaders other than Nuncio enter: from 32-bit protected mode to 64-bit mode and Rust.
//
// PVH (Xen, docs/misc/pvh): EBX is the address of the start info; CR0 has PE alone, CR4 is zero. Multiboot2 (2.0,
// section 3.3): EAX is the magic number, EBX the address of the information. In both, segments are flat,
// interrupts and paging are off, and there is no stack. The tables made here serve until Rust has made others.

.section .note.xen, "a", @note
.balign 4
    .long 4, 4, {pvh_note_type}
    .asciz "Xen"
    .long pvh_entry

.section .multiboot2, "a"
.balign 8
multiboot2_header:
    .long {multiboot2_header_magic}, 0
    .long multiboot2_header_end - multiboot2_header
    .long -({multiboot2_header_magic} + (multiboot2_header_end - multiboot2_header))
    // Where to enter: the entry of the ELF file is Nuncio's, for 64-bit mode.
    .short 3, 0
    .long 12, multiboot2_entry
.balign 8
    // Modules on page boundaries.
    .short 6, 0
    .long 8
    // No more tags.
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .bss.entry_tables, "aw", @nobits
.balign 4096
entry_level_4:
    .skip 4096
entry_level_3:
    .skip 4096
entry_level_2:
    .skip 4 * 4096

.section .rodata.entry, "a"
.balign 8
entry_segments:
    .quad 0
    // 64-bit code, then data (Intel SDM 3A, 3.4.5 and 5.2.1).
    .quad 0x00209A0000000000
    .quad 0x0000920000000000
entry_segments_pointer:
    .short entry_segments_pointer - entry_segments - 1
    .long entry_segments
no_64_bits:
    .asciz "the guest kernel needs a CPU with 64-bit mode and no-execute pages\r\n"

.section .text.entry, "ax"
.code32
pvh_entry:
    mov eax, {pvh_magic}
multiboot2_entry:
    cli
    cld
    mov esp, offset {stack} + {stack_bytes}
    mov ebp, eax
    mov esi, ebx

    // Leaf 0x80000001, EDX: bit 29 is 64-bit mode, bit 20 no-execute pages (Intel SDM 2A, CPUID).
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb without_64_bits
    mov eax, 0x80000001
    cpuid
    and edx, 1 << 29 | 1 << 20
    cmp edx, 1 << 29 | 1 << 20
    jne without_64_bits

    // The first 4 GiB where they are, in 2048 pages of 2 MiB; entries are present and writable, and the last
    // level has PS (Intel SDM 3A, 4.5). Upper halves are zero in .bss, and 4 GiB need no more.
    mov eax, offset entry_level_3 + 3
    mov [entry_level_4], eax
    mov edi, offset entry_level_3
    mov eax, offset entry_level_2 + 3
    mov ecx, 4
next_directory:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop next_directory
    mov edi, offset entry_level_2
    mov eax, 0x83
    mov ecx, 2048
next_page:
    mov [edi], eax
    add eax, 2 << 20
    add edi, 8
    loop next_page

    // The order is that of Intel SDM 3A, 9.8.5: CR4.PAE, CR3, EFER.LME, CR0.PG.
    mov eax, cr4
    bts eax, 5
    mov cr4, eax
    mov eax, offset entry_level_4
    mov cr3, eax
    mov ecx, 0xC0000080
    rdmsr
    bts eax, 8
    wrmsr
    mov eax, cr0
    bts eax, 31
    mov cr0, eax
    lgdt [entry_segments_pointer]
    push 8
    mov eax, offset in_64_bits
    push eax
    retf

// Says it on the first serial port, as the firmware has left it, and halts.
without_64_bits:
    mov esi, offset no_64_bits
next_character:
    mov edx, 0x3FD
    mov ecx, 1 << 20
wait_for_port:
    in al, dx
    test al, 0x20
    loopz wait_for_port
    lodsb
    test al, al
    jz halted
    mov edx, 0x3F8
    out dx, al
    jmp next_character
halted:
    hlt
    jmp halted

.code64
in_64_bits:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    // Upper halves are undefined after the switch (Intel SDM 1, 3.4.1.1); moves of 32 bits clear them.
    mov edi, ebp
    mov esi, esi
    lea rsp, [rip + {stack} + {stack_bytes}]
    // A walk along the frames ends here.
    xor ebp, ebp
    call {start}
    ud2
