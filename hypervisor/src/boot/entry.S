// The first instructions: from the boot loader's 32-bit protected mode to 64-bit mode and Rust.
//
// At entry (Multiboot 0.6.96, section 3.2; Multiboot2 2.0, section 3.3): EAX holds the loader's
// magic number, EBX the address of its information, paging is off, interrupts are off, and ESP is
// undefined. The page tables built here serve until Rust has built its own.

.section .multiboot1, "a"
.balign 4
multiboot1_header:
    .long {multiboot1_magic}, {multiboot1_flags}, {multiboot1_checksum}
    .long multiboot1_header, image_start, load_end, image_end, _start

.section .multiboot2, "a"
.balign 8
multiboot2_header:
    .long {multiboot2_magic}, {architecture}, {multiboot2_length}, {multiboot2_checksum}
    // Information request: modules (3) and memory map (6).
    .short 1, 0
    .long 16, 3, 6
    // Modules on page boundaries.
    .short 6, 0
    .long 8
    // End of the tags.
    .short 0, 0
    .long 8
.if . - multiboot2_header - {multiboot2_length}
    .error "the multiboot2 header does not have the length that it claims"
.endif

.section .bss.boot_tables, "aw", @nobits
.balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_directories:
    .skip 4 * 4096

.section .rodata.boot, "a"
.balign 8
boot_gdt:
    .quad 0
    // 64-bit code: present, ring 0, executable, L (Intel SDM vol. 3, 3.4.5 and 5.2.1).
    .quad 0x00209A0000000000
    // Data: present, ring 0, writable.
    .quad 0x0000920000000000
    // For other CPUs on their way: 32-bit code and data, 4 GiB from 0.
    .quad 0x00CF9A000000FFFF
    .quad 0x00CF92000000FFFF
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt
no_long_mode_text:
    .ascii "@refused code=no-long-mode text=This CPU has no 64-bit mode, and Nuncio needs one.\n"
no_long_mode_end:
bochs_shutdown:
    .ascii "Shutdown"
bochs_shutdown_end:

.section .text.entry, "ax"
.code32
.global _start
_start:
    cli
    cld
    mov esp, offset {boot_block} + {boot_stack_top}
    mov edi, eax
    mov esi, ebx

    // CPUID exists if EFLAGS.ID (bit 21) can be changed (Intel SDM vol. 1, 20.1.2).
    pushfd
    pop eax
    mov ecx, eax
    xor eax, 1 << 21
    push eax
    popfd
    pushfd
    pop eax
    cmp eax, ecx
    je no_long_mode

    // 64-bit mode: leaf 0x80000001, EDX bit 29 (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.4.2).
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 29
    jz no_long_mode

    // Identity map of the first 4 GiB in pages of 2 MiB: present, writable, and PS in the last
    // level (Intel SDM vol. 3, 4.5). The upper halves of the entries are zero in .bss.
    mov dword ptr [boot_pml4], offset boot_pdpt + 3
    mov eax, offset boot_directories + 3
    xor ecx, ecx
2:  mov [boot_pdpt + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jne 2b
    mov eax, 0x83
    xor ecx, ecx
3:  mov [boot_directories + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jne 3b

    mov ebx, offset {boot_main}

    // From here on for every CPU: EBX is where it goes on, EDI and ESI are handed over, ESP is its stack.
enter_long_mode:
    // IA-32e mode: CR4.PAE, CR3, EFER.LME, CR0.PG in this order (Intel SDM vol. 3, 9.8.5).
    mov eax, cr4
    or eax, 1 << 5
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 1 << 8
    wrmsr
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax

    // A far return loads CS with the 64-bit code segment.
    lgdt [boot_gdt_pointer]
    push 0x08
    mov eax, offset long_mode
    push eax
    retf

// Says so on COM1 (115200 8n1) and ends the machine, both as cpu/serial.rs and cpu/exit.rs do.
no_long_mode:
    mov dx, 0x3FB
    mov al, 0x80
    out dx, al
    mov dx, 0x3F8
    mov al, 1
    out dx, al
    mov dx, 0x3F9
    xor eax, eax
    out dx, al
    mov dx, 0x3FB
    mov al, 0x03
    out dx, al
    mov esi, offset no_long_mode_text
4:  mov dx, 0x3FD
5:  pause
    in al, dx
    test al, 0x20
    jz 5b
    mov dx, 0x3F8
    lodsb
    out dx, al
    cmp esi, offset no_long_mode_end
    jne 4b
    // The emulator must not end before the last byte has left the shift register: LSR bit 6, TEMT
    // (National Semiconductor PC16550D data sheet, 8.6.3).
    mov dx, 0x3FD
6:  pause
    in al, dx
    test al, 0x40
    jz 6b
    // QEMU ends here, Bochs when it has read its word.
    mov dx, {debug_exit_port}
    mov al, {exit_refused}
    out dx, al
    mov dx, {bochs_port}
    mov esi, offset bochs_shutdown
7:  lodsb
    out dx, al
    cmp esi, offset bochs_shutdown_end
    jne 7b
8:  cli
    hlt
    jmp 8b

.code64
long_mode:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    // The upper halves of the registers are undefined after the switch (Intel SDM vol. 1, 3.4.1.1).
    mov esp, esp
    mov ebx, ebx
    mov edi, edi
    mov esi, esi
    // A frame pointer of 0 ends a walk of the stack.
    xor ebp, ebp
    call rbx
    ud2

// Where other CPUs begin: copied into a page below 1 MiB, so it may name no address of its own but by its
// distance from the start. A start-up interrupt sets CS to the page, IP to 0, and turns paging and
// protection off (Intel SDM vol. 3, 8.4.4.1).
.section .rodata.boot, "a"
.global other_cpu_start, other_cpu_start_end
.code16
other_cpu_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    // LGDT with an operand of 32 bits, without which it would take 24 bits of the address. The assembler
    // does not take a difference of labels for the place, hence the bytes: prefix, 0F 01 /2, disp16.
    .byte 0x66, 0x0F, 0x01, 0x16
    .short other_cpu_gdt_pointer - other_cpu_start
    mov eax, cr0
    or al, 1
    mov cr0, eax
    // A far jump to 32-bit code: operand size prefix, JMP ptr16:32.
    .byte 0x66, 0xEA
    .long other_cpu_protected
    .short 0x18
.balign 4
other_cpu_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt
other_cpu_start_end:

.section .text.entry, "ax"
.code32
other_cpu_protected:
    mov eax, 0x20
    mov ds, eax
    mov es, eax
    mov ss, eax
    // The local APIC's identifier, as cpu/local_apic.rs reads it: leaf 0xB if there is one, else leaf 1.
    xor eax, eax
    cpuid
    cmp eax, 0xB
    jb 2f
    mov eax, 0xB
    xor ecx, ecx
    cpuid
    test ebx, ebx
    jnz 3f
2:  mov eax, 1
    cpuid
    shr ebx, 24
    mov edx, ebx
    // Only the CPU that is expected goes on, and only once; others are late, and given up. The number of
    // the offer is read first: if the exchange still finds it, what was read in between belongs to it.
3:  mov eax, [{mailbox} + {mailbox_offer}]
    cmp eax, {mailbox_no_offer}
    je other_cpu_halt
    cmp edx, [{mailbox} + {mailbox_apic_id}]
    jne other_cpu_halt
    mov ebx, [{mailbox} + {mailbox_stack}]
    mov ecx, {mailbox_no_offer}
    lock cmpxchg [{mailbox} + {mailbox_offer}], ecx
    jne other_cpu_halt
    mov esp, ebx
    mov ebx, offset {arrive}
    jmp enter_long_mode
other_cpu_halt:
    cli
    hlt
    jmp other_cpu_halt
.code64

