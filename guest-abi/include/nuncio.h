/* The guest ABI of the Nuncio hypervisor, version 0.2, for C11.
 *
 * Written by `nuncio abi header` from the tables of the crate nuncio-abi; change those instead.
 * The crate's README.md is the specification. All addresses are guest-physical.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef NUNCIO_H
#define NUNCIO_H

#include <stddef.h>
#include <stdint.h>

#define NUNCIO_VERSION 0x00000002u
#define NUNCIO_PAGE_BYTES 4096

/* Verbs: what goes into RAX. */
enum nuncio_verb {
    /* Agree on the ABI version and learn the hypervisor's. */
    NUNCIO_VERB_HELLO = 0,
    /* Put a message on a port, waiting for room if asked to. */
    NUNCIO_VERB_SEND = 1,
    /* Take the next message from a port, waiting for it if asked to. */
    NUNCIO_VERB_RECEIVE = 2,
    /* Set bits of an event. */
    NUNCIO_VERB_NOTIFY = 3,
    /* Sleep until an event is pending or a deadline has passed. */
    NUNCIO_VERB_WAIT = 4,
    /* Put pages of a memory object into an address space. */
    NUNCIO_VERB_MAP = 5,
    /* Take pages out of an address space. */
    NUNCIO_VERB_UNMAP = 6,
    /* Drop a handle. */
    NUNCIO_VERB_CLOSE = 7,
    /* Ask what a handle names and what it has used. */
    NUNCIO_VERB_QUERY = 8,
    /* End a domain with an exit code, or stop a vcpu. */
    NUNCIO_VERB_STOP = 9,
    /* Make an object from the domain's own quota. */
    NUNCIO_VERB_CREATE = 10,
    /* Make a weaker copy of a handle. */
    NUNCIO_VERB_GRANT = 11,
    /* Set the time of a timer. */
    NUNCIO_VERB_ARM = 12,
    /* Send a message and wait for the answer to it. */
    NUNCIO_VERB_CALL = 13,
    /* Answer a call, and receive the next message if asked to. */
    NUNCIO_VERB_REPLY = 14,
    /* Let a vcpu run. */
    NUNCIO_VERB_START = 15,
    /* Run a vcpu until it needs its runner. */
    NUNCIO_VERB_RUN = 16,
    /* Make the calls that stand in a ring. */
    NUNCIO_VERB_SUBMIT = 17,
    /* Set the priority, the budget and the CPU of a vcpu. */
    NUNCIO_VERB_SCHEDULE = 18,
};

/* Errors: what comes back in RAX; 0 is success. */
enum nuncio_error {
    /* This hypervisor has no verb of that number. */
    NUNCIO_ERROR_UNKNOWN_VERB = 1,
    /* The handle names nothing: never given, closed, or of an older generation. */
    NUNCIO_ERROR_BAD_HANDLE = 2,
    /* The handle names an object of another kind than the verb takes. */
    NUNCIO_ERROR_WRONG_KIND = 3,
    /* The handle lacks the right that the verb needs. */
    NUNCIO_ERROR_MISSING_RIGHT = 4,
    /* An argument is out of its range, or a reserved bit or unused register is not zero. */
    NUNCIO_ERROR_BAD_ARGUMENT = 5,
    /* A range is misaligned, empty, too long, or leaves the object or address space. */
    NUNCIO_ERROR_BAD_ADDRESS = 6,
    /* The port holds as many messages as it can; wait for its reader and send again. */
    NUNCIO_ERROR_QUEUE_FULL = 7,
    /* The port holds no message. */
    NUNCIO_ERROR_QUEUE_EMPTY = 8,
    /* The deadline passed first. */
    NUNCIO_ERROR_TIMED_OUT = 9,
    /* The domain has used up what its quota allows for this. */
    NUNCIO_ERROR_QUOTA_EXHAUSTED = 10,
    /* Nobody is left at the other end. */
    NUNCIO_ERROR_PEER_GONE = 11,
    /* Part of the range already has memory mapped. */
    NUNCIO_ERROR_ALREADY_MAPPED = 12,
    /* Part of the range has no memory mapped. */
    NUNCIO_ERROR_NOT_MAPPED = 13,
    /* The message does not fit into registers and no buffer was given. */
    NUNCIO_ERROR_BUFFER_TOO_SMALL = 14,
    /* The hypervisor does not serve that ABI version. */
    NUNCIO_ERROR_WRONG_VERSION = 15,
    /* An event became pending first; look at the event words and call again. */
    NUNCIO_ERROR_INTERRUPTED = 16,
    /* The object is not in a state in which that can be done to it. */
    NUNCIO_ERROR_WRONG_STATE = 17,
};

/* Kinds of object. */
enum nuncio_kind {
    /* A virtual machine: who owns what. */
    NUNCIO_KIND_DOMAIN = 1,
    /* A virtual CPU. */
    NUNCIO_KIND_VCPU = 2,
    /* A guest-physical address space. */
    NUNCIO_KIND_SPACE = 3,
    /* Pages that can be mapped. */
    NUNCIO_KIND_MEMORY = 4,
    /* A bounded queue of messages. */
    NUNCIO_KIND_PORT = 5,
    /* A word of bits that are notified. */
    NUNCIO_KIND_EVENT = 6,
    /* A point in time at which bits of an event are set. */
    NUNCIO_KIND_TIMER = 7,
};

/* Items of `query`. */
enum nuncio_query {
    /* Any handle: the number of its ObjectKind; the bits of its Rights. */
    NUNCIO_QUERY_KIND = 0,
    /* Domain: frames used; frames allowed. Memory: bytes; 0. Port: messages queued; capacity. Event: slot; 0. Timer: 0; 0. Space: bytes mapped; first address past its end. Vcpu: 0; 0. */
    NUNCIO_QUERY_USAGE = 1,
    /* Domain: the number of its StopReason; the detail that goes with it. */
    NUNCIO_QUERY_STATUS = 2,
    /* Domain: bytes of the hypervisor's memory used; bytes allowed. */
    NUNCIO_QUERY_KERNEL_USAGE = 3,
};

/* Why a domain has stopped. */
enum nuncio_stop {
    /* It has not stopped. */
    NUNCIO_STOP_RUNNING = 0,
    /* It asked to stop; the detail is its exit code. */
    NUNCIO_STOP_EXITED = 1,
    /* It faulted while its CPU delivered a double fault; nothing was there to handle it. */
    NUNCIO_STOP_TRIPLE_FAULT = 2,
    /* It touched memory that it was not given; the detail is the guest-physical address. */
    NUNCIO_STOP_BAD_MEMORY = 3,
    /* It used an I/O port and has nobody who emulates one; the detail is the port. */
    NUNCIO_STOP_PORT_IO = 4,
    /* It halted with interrupts off; nothing can wake it. */
    NUNCIO_STOP_HALTED_FOR_EVER = 5,
    /* Its registers are in a state that the CPU refuses to run. */
    NUNCIO_STOP_BAD_STATE = 6,
    /* It did something that this hypervisor does not offer; the detail is the CPU's exit code. */
    NUNCIO_STOP_UNSUPPORTED = 7,
    /* It waits without a deadline and nobody is left who could wake it. */
    NUNCIO_STOP_DEADLOCK = 8,
    /* It still ran when the time limit of the run was reached. */
    NUNCIO_STOP_TIME_LIMIT = 9,
    /* It was in the background, and the domains it served have all stopped. */
    NUNCIO_STOP_RUN_ENDED = 10,
    /* Its creator gave it up: it closed the handle, or ended itself. */
    NUNCIO_STOP_DESTROYED = 11,
};

/* Run states: what a vcpu does at the moment. */
enum nuncio_run_state {
    /* It has a CPU. */
    NUNCIO_RUN_STATE_RUNNING = 0,
    /* It could run, and waits for a CPU. */
    NUNCIO_RUN_STATE_READY = 1,
    /* It waits for something else, or stands still for its monitor. */
    NUNCIO_RUN_STATE_ASLEEP = 2,
    /* It has not been started, or has come to its end. */
    NUNCIO_RUN_STATE_STOPPED = 3,
};

/* Rights of a handle. */
#define NUNCIO_RIGHT_READ (UINT64_C(1) << 0) /* memory: to map it readable */
#define NUNCIO_RIGHT_WRITE (UINT64_C(1) << 1) /* memory: to map it writable */
#define NUNCIO_RIGHT_EXECUTE (UINT64_C(1) << 2) /* memory: to map it executable */
#define NUNCIO_RIGHT_SEND (UINT64_C(1) << 3) /* port: to send to it */
#define NUNCIO_RIGHT_RECEIVE (UINT64_C(1) << 4) /* port: to receive from it */
#define NUNCIO_RIGHT_NOTIFY (UINT64_C(1) << 5) /* event: to set its bits */
#define NUNCIO_RIGHT_WAIT (UINT64_C(1) << 6) /* event: nothing to call: its word lies in the holder's vcpu page */
#define NUNCIO_RIGHT_MAP (UINT64_C(1) << 7) /* space: to map into it, unmap from it, and run a vcpu in it */
#define NUNCIO_RIGHT_STOP (UINT64_C(1) << 8) /* domain or vcpu: to end the domain; to stop the vcpu */
#define NUNCIO_RIGHT_GRANT (UINT64_C(1) << 9) /* any object: to copy the handle, and to send it in a message */
#define NUNCIO_RIGHT_ARM (UINT64_C(1) << 10) /* timer: to set its time */
#define NUNCIO_RIGHT_REVOKE (UINT64_C(1) << 11) /* memory: to take it back from everybody, by closing the handle */
#define NUNCIO_RIGHT_BUILD (UINT64_C(1) << 12) /* domain: to give it handles and a vcpu, and to destroy it, by closing the handle */
#define NUNCIO_RIGHT_START (UINT64_C(1) << 13) /* vcpu: to let it run */
#define NUNCIO_RIGHT_SCHEDULE (UINT64_C(1) << 14) /* vcpu: to set its priority and its budget */

/* The header of a message. */
#define NUNCIO_HEADER_LENGTH UINT64_C(0x7f) /* length in bytes */
#define NUNCIO_HEADER_IN_MEMORY UINT64_C(0x80) /* the message lies in memory */
#define NUNCIO_HEADER_WAIT UINT64_C(0x800) /* of a `send`: wait for room until the deadline in the last of the words */
#define NUNCIO_HEADER_THEN_RECEIVE UINT64_C(0x800) /* of a `reply`: receive the next message, too */
#define NUNCIO_HEADER_HANDLES_SHIFT 8 /* 3 bits */
#define NUNCIO_HEADER_TOKEN_SHIFT 32 /* 32 bits */
#define NUNCIO_MESSAGE_ALIGNMENT 128 /* of a message in memory, and the bytes that it may take */

/* A handle in a message, with the rights of the receiver's copy. */
#define NUNCIO_TRANSFER(handle, rights) ((handle) | (uint64_t)(rights) << 32)

/* Deadlines in nanoseconds on the system clock. */
#define NUNCIO_DEADLINE_NOW UINT64_C(0)
#define NUNCIO_DEADLINE_NEVER UINT64_MAX

/* Limits. */
#define NUNCIO_MAX_MESSAGE_BYTES 64 /* bytes in a message */
#define NUNCIO_MAX_REGISTER_BYTES 24 /* bytes in a message in registers */
#define NUNCIO_MAX_MESSAGE_HANDLES 4 /* handles in a message */
#define NUNCIO_MAX_PORT_CAPACITY 256 /* messages queued on a port */
#define NUNCIO_MAX_SLOTS 64 /* slots in a vcpu page */
#define NUNCIO_MAX_EVENT_BITS 64 /* bits in an event */
#define NUNCIO_MAX_EVENT_INTERVAL 3600000000000 /* least nanoseconds between two postings of an event */
#define NUNCIO_MAX_PRIORITY 63 /* priorities */
#define NUNCIO_MAX_PERIOD 1000000000 /* nanoseconds in the period of a budget */
#define NUNCIO_MAX_RING_ENTRIES 31 /* entries in a ring */
#define NUNCIO_MAX_MAP_BYTES 16777216 /* bytes in one map or unmap, and in a memory from create */
#define NUNCIO_MAX_BOOT_HANDLES 40 /* handles in the boot-info page */
#define NUNCIO_MAX_VCPUS 64 /* vcpus of a domain */
#define NUNCIO_MAX_MODULES 16 /* modules of a domain */
#define NUNCIO_MAX_NAME_BYTES 32 /* bytes in a name, with its zero */
#define NUNCIO_MAX_COMMAND_LINE_BYTES 512 /* bytes in the command line, with its zero */

/* The note of an image, at file scope; `entry` is the symbol of its first instruction. The
 * linker script puts .note.nuncio into a PT_NOTE segment. */
#define NUNCIO_NOTE(entry) \
    __asm__(".pushsection .note.nuncio, \"a\", @note\n" \
            ".balign 4\n" \
            ".long 7, 16, 1\n" \
            ".asciz \"Nuncio\"\n" \
            ".balign 4\n" \
            ".long 0x00000002, 0\n" \
            ".quad " #entry "\n" \
            ".popsection\n")

/* The first word of a boot-info page. */
#define NUNCIO_BOOT_INFO_MAGIC UINT64_C(0x4f49434e554e)

/* A module of the domain. */
struct nuncio_module {
    char name[32];
    uint64_t address;
    uint64_t length;
};
_Static_assert(offsetof(struct nuncio_module, name) == 0, "name");
_Static_assert(offsetof(struct nuncio_module, address) == 32, "address");
_Static_assert(offsetof(struct nuncio_module, length) == 40, "length");
_Static_assert(sizeof(struct nuncio_module) == 48, "module");

/* A handle that the domain starts with. */
struct nuncio_named_handle {
    char name[32];
    uint64_t handle;
    uint64_t description;
};
_Static_assert(offsetof(struct nuncio_named_handle, name) == 0, "name");
_Static_assert(offsetof(struct nuncio_named_handle, handle) == 32, "handle");
_Static_assert(offsetof(struct nuncio_named_handle, description) == 40, "description");
_Static_assert(sizeof(struct nuncio_named_handle) == 48, "named_handle");

/* The parts of a handle's description. The slot is that of a port with `receive` or an event with
 * `wait`. */
#define NUNCIO_DESCRIPTION_KIND(description) ((description) & 0xff)
#define NUNCIO_DESCRIPTION_SLOT(description) ((description) >> 8 & 0xff)
#define NUNCIO_DESCRIPTION_RIGHTS(description) ((description) >> 32)
_Static_assert(NUNCIO_DESCRIPTION_KIND(UINT64_C(0x1000000905)) == 5, "KIND");
_Static_assert(NUNCIO_DESCRIPTION_SLOT(UINT64_C(0x1000000905)) == 9, "SLOT");
_Static_assert(NUNCIO_DESCRIPTION_RIGHTS(UINT64_C(0x1000000905)) == 16, "RIGHTS");

/* The boot-info page: RDI points to it when the domain starts. */
struct nuncio_boot_info {
    uint64_t magic;
    uint64_t version;
    char name[32];
    uint64_t ram_bytes;
    uint64_t free_start;
    uint64_t vcpu_page;
    uint64_t time_page;
    uint64_t text_page;
    uint64_t mapped_end;
    uint64_t address_limit;
    uint64_t module_count;
    uint64_t handle_count;
    char command_line[512];
    struct nuncio_module modules[16];
    struct nuncio_named_handle handles[40];
    uint64_t vcpu_count;
    uint64_t vcpus[64];
};
_Static_assert(offsetof(struct nuncio_boot_info, magic) == 0, "magic");
_Static_assert(offsetof(struct nuncio_boot_info, version) == 8, "version");
_Static_assert(offsetof(struct nuncio_boot_info, name) == 16, "name");
_Static_assert(offsetof(struct nuncio_boot_info, ram_bytes) == 48, "ram_bytes");
_Static_assert(offsetof(struct nuncio_boot_info, free_start) == 56, "free_start");
_Static_assert(offsetof(struct nuncio_boot_info, vcpu_page) == 64, "vcpu_page");
_Static_assert(offsetof(struct nuncio_boot_info, time_page) == 72, "time_page");
_Static_assert(offsetof(struct nuncio_boot_info, text_page) == 80, "text_page");
_Static_assert(offsetof(struct nuncio_boot_info, mapped_end) == 88, "mapped_end");
_Static_assert(offsetof(struct nuncio_boot_info, address_limit) == 96, "address_limit");
_Static_assert(offsetof(struct nuncio_boot_info, module_count) == 104, "module_count");
_Static_assert(offsetof(struct nuncio_boot_info, handle_count) == 112, "handle_count");
_Static_assert(offsetof(struct nuncio_boot_info, command_line) == 120, "command_line");
_Static_assert(offsetof(struct nuncio_boot_info, modules) == 632, "modules");
_Static_assert(offsetof(struct nuncio_boot_info, handles) == 1400, "handles");
_Static_assert(offsetof(struct nuncio_boot_info, vcpu_count) == 3320, "vcpu_count");
_Static_assert(offsetof(struct nuncio_boot_info, vcpus) == 3328, "vcpus");
_Static_assert(sizeof(struct nuncio_boot_info) == 3840, "boot_info");

/* A slot of the vcpu page. */
struct nuncio_slot {
    _Atomic(uint64_t) pending; /* written by both */
    _Atomic(uint64_t) enabled; /* written by the guest */
};

/* The postings of a slot. */
struct nuncio_slot_count {
    _Atomic(uint64_t) count;   /* written by the hypervisor */
    _Atomic(uint64_t) wake_at; /* written by the guest */
};

/* The vcpu page, shared with the hypervisor. */
struct nuncio_vcpu_page {
    _Atomic(uint64_t) ready;         /* written by both */
    _Atomic(uint64_t) upcall_vector; /* written by the guest */
    _Atomic(uint64_t) threshold;     /* written by the guest */
    _Atomic(uint64_t) ring;          /* written by the guest */
    _Atomic(uint64_t) run_state;     /* written by the hypervisor */
    _Atomic(uint64_t) stolen_ns;     /* written by the hypervisor */
    _Atomic(uint64_t) ready_since;   /* written by the hypervisor */
    uint64_t reserved[57];
    struct nuncio_slot slots[64];
    struct nuncio_slot_count counts[64];
    uint64_t reserved_behind[192];
};
_Static_assert(sizeof(struct nuncio_slot) == 16, "slot");
_Static_assert(sizeof(struct nuncio_slot_count) == 16, "slot_count");
_Static_assert(offsetof(struct nuncio_vcpu_page, ready) == 0, "ready");
_Static_assert(offsetof(struct nuncio_vcpu_page, upcall_vector) == 8, "upcall_vector");
_Static_assert(offsetof(struct nuncio_vcpu_page, threshold) == 16, "threshold");
_Static_assert(offsetof(struct nuncio_vcpu_page, ring) == 24, "ring");
_Static_assert(offsetof(struct nuncio_vcpu_page, run_state) == 32, "run_state");
_Static_assert(offsetof(struct nuncio_vcpu_page, stolen_ns) == 40, "stolen_ns");
_Static_assert(offsetof(struct nuncio_vcpu_page, ready_since) == 48, "ready_since");
_Static_assert(offsetof(struct nuncio_vcpu_page, slots) == 512, "slots");
_Static_assert(offsetof(struct nuncio_vcpu_page, counts) == 1536, "counts");
_Static_assert(sizeof(struct nuncio_vcpu_page) == 4096, "vcpu_page");

/* A call in a ring. */
struct nuncio_ring_entry {
    _Atomic(uint64_t) verb;              /* written by the guest */
    _Atomic(uint64_t) arguments[5];      /* written by the guest */
    uint64_t tag;                        /* the guest's own */
    _Atomic(uint64_t) zero;              /* written by the guest */
    _Atomic(uint64_t) status;            /* written by the hypervisor */
    _Atomic(uint64_t) values[5];         /* written by the hypervisor */
    uint64_t reserved[2];
};

/* The ring: how calls are added stands in the specification. */
struct nuncio_ring {
    _Atomic(uint64_t) submitted; /* written by the guest */
    _Atomic(uint64_t) taken;     /* written by the hypervisor */
    _Atomic(uint64_t) flags;     /* written by the hypervisor */
    uint64_t reserved[13];
    struct nuncio_ring_entry entries[31];
};
#define NUNCIO_RING_ATTENDED UINT64_C(0x1)
_Static_assert(offsetof(struct nuncio_ring_entry, tag) == 48, "tag");
_Static_assert(offsetof(struct nuncio_ring_entry, zero) == 56, "zero");
_Static_assert(offsetof(struct nuncio_ring_entry, status) == 64, "status");
_Static_assert(sizeof(struct nuncio_ring_entry) == 128, "ring_entry");
_Static_assert(offsetof(struct nuncio_ring, submitted) == 0, "submitted");
_Static_assert(offsetof(struct nuncio_ring, taken) == 8, "taken");
_Static_assert(offsetof(struct nuncio_ring, flags) == 16, "flags");
_Static_assert(offsetof(struct nuncio_ring, entries) == 128, "entries");
_Static_assert(sizeof(struct nuncio_ring) == 4096, "ring");

/* The time page, read-only: how to read it stands in the specification. */
struct nuncio_time_page {
    /* sequence: odd while the page changes */
    _Atomic(uint64_t) sequence;
    /* time-stamp counter at the base */
    _Atomic(uint64_t) base_ticks;
    /* nanoseconds at the base */
    _Atomic(uint64_t) base_ns;
    /* multiplier */
    _Atomic(uint64_t) multiplier;
    /* shift, 0 to 127 */
    _Atomic(uint64_t) shift;
    /* disruption marker: changes when the clock has jumped; never, in this version */
    _Atomic(uint64_t) disruption;
    /* frequency of the time-stamp counter in hertz */
    _Atomic(uint64_t) frequency_hz;
    uint64_t reserved[505];
};
_Static_assert(offsetof(struct nuncio_time_page, sequence) == 0, "sequence");
_Static_assert(offsetof(struct nuncio_time_page, base_ticks) == 8, "base_ticks");
_Static_assert(offsetof(struct nuncio_time_page, base_ns) == 16, "base_ns");
_Static_assert(offsetof(struct nuncio_time_page, multiplier) == 24, "multiplier");
_Static_assert(offsetof(struct nuncio_time_page, shift) == 32, "shift");
_Static_assert(offsetof(struct nuncio_time_page, disruption) == 40, "disruption");
_Static_assert(offsetof(struct nuncio_time_page, frequency_hz) == 48, "frequency_hz");
_Static_assert(sizeof(struct nuncio_time_page) == 4096, "time_page");

/* The entry of the text page that reads it. */
#define NUNCIO_CLOCK_ENTRY 64

/* The words of the state page, and the bits of its groups of registers. */
#define NUNCIO_STATE_EXITS 0 /* which exits go to the monitor */
#define NUNCIO_STATE_SAVE 1 /* the groups that are written at an exit */
#define NUNCIO_STATE_LOAD 2 /* the groups that are read before the vcpu goes on */
#define NUNCIO_STATE_EXCEPTIONS 3 /* which exceptions go to the monitor */
#define NUNCIO_STATE_RIP 32 /* RIP */
#define NUNCIO_STATE_RFLAGS 33 /* RFLAGS */
#define NUNCIO_STATE_SHADOW 34 /* bit 0: an interrupt shadow is in effect, as of STI or MOV SS */
#define NUNCIO_STATE_PENDING 35 /* the vector of an interrupt that has not been delivered yet, or 0; ignored when loaded */
#define NUNCIO_STATE_CR0 40 /* CR0 */
#define NUNCIO_STATE_CR2 41 /* CR2 */
#define NUNCIO_STATE_CR3 42 /* CR3 */
#define NUNCIO_STATE_CR4 43 /* CR4 */
#define NUNCIO_STATE_EFER 44 /* IA32_EFER */
#define NUNCIO_STATE_PAT 45 /* IA32_PAT */
#define NUNCIO_STATE_CR8 46 /* CR8 */
#define NUNCIO_STATE_GDTR_BASE 80 /* GDTR: base */
#define NUNCIO_STATE_GDTR_LIMIT 81 /* GDTR: limit */
#define NUNCIO_STATE_IDTR_BASE 82 /* IDTR: base */
#define NUNCIO_STATE_IDTR_LIMIT 83 /* IDTR: limit */
#define NUNCIO_STATE_STAR 96 /* IA32_STAR */
#define NUNCIO_STATE_LSTAR 97 /* IA32_LSTAR */
#define NUNCIO_STATE_CSTAR 98 /* IA32_CSTAR */
#define NUNCIO_STATE_FMASK 99 /* IA32_FMASK */
#define NUNCIO_STATE_KERNEL_GS_BASE 100 /* IA32_KERNEL_GS_BASE */
#define NUNCIO_STATE_SYSENTER_CS 101 /* IA32_SYSENTER_CS */
#define NUNCIO_STATE_SYSENTER_ESP 102 /* IA32_SYSENTER_ESP */
#define NUNCIO_STATE_SYSENTER_EIP 103 /* IA32_SYSENTER_EIP */
#define NUNCIO_STATE_GENERAL(number) (16 + (number))
#define NUNCIO_STATE_SEGMENT(number) (64 + 2 * (number))
#define NUNCIO_STATE_GROUP_GENERAL UINT64_C(0x1)
#define NUNCIO_STATE_GROUP_INSTRUCTION UINT64_C(0x2)
#define NUNCIO_STATE_GROUP_CONTROL UINT64_C(0x4)
#define NUNCIO_STATE_GROUP_SEGMENTS UINT64_C(0x8)
#define NUNCIO_STATE_GROUP_SYSTEM UINT64_C(0x10)

#if defined(__GNUC__) && defined(__x86_64__)

/* The values that a call returns, in their order. Not all calls return all. */
struct nuncio_values {
    uint64_t rdx, r10, r8, rdi, rsi;
};

/* Makes a call through the text page and gives RAX: 0, or an error. To be compiled with
 * -mno-red-zone, because the call writes below the stack pointer. `values` may be NULL. */
static inline uint64_t nuncio_enter(uint64_t text_page, uint64_t rax, uint64_t rdi, uint64_t rsi,
                                    uint64_t rdx, uint64_t r10, uint64_t r8,
                                    struct nuncio_values *values)
{
    register uint64_t fourth __asm__("r10") = r10;
    register uint64_t fifth __asm__("r8") = r8;

    __asm__ volatile("call *%[entry]"
                     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(fourth), "+r"(fifth)
                     : [entry] "r"(text_page)
                     : "memory");
    if (values != NULL) {
        values->rdx = rdx;
        values->r10 = fourth;
        values->r8 = fifth;
        values->rdi = rdi;
        values->rsi = rsi;
    }
    return rax;
}

/* Nanoseconds since the hypervisor started, without a call: the second entry of the text page. Both
 * addresses are the caller's own. */
static inline uint64_t nuncio_clock(uint64_t text_page, uint64_t time_page)
{
    typedef __attribute__((sysv_abi)) uint64_t (*entry)(uint64_t);

    return ((entry)(uintptr_t)(text_page + NUNCIO_CLOCK_ENTRY))(time_page);
}

/* Agree on the ABI version and learn the hypervisor's.
 *   version: the version for which the guest was built
 * Returns version in rdx.
 * Returns features in r10.
 * Errors: bad-argument, wrong-version. */
static inline uint64_t nuncio_hello(uint64_t text_page, uint64_t version, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_HELLO, version, 0, 0, 0, 0, values);
}

/* Put a message on a port, waiting for room if asked to.
 *   port: port, with send
 *   header: header
 *   words: words of the message, or its address and zeros
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, peer-gone, queue-full, interrupted, timed-out. */
static inline uint64_t nuncio_send(uint64_t text_page, uint64_t port, uint64_t header, uint64_t words_0, uint64_t words_1, uint64_t words_2)
{
    return nuncio_enter(text_page, NUNCIO_VERB_SEND, port, header, words_0, words_1, words_2, NULL);
}

/* Take the next message from a port, waiting for it if asked to.
 *   port: port, with receive
 *   deadline: deadline
 *   buffer: guest-physical address
 * Returns header in rdx.
 * Returns badge in r10.
 * Returns words in r8, rdi, rsi.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, wrong-state, buffer-too-small, quota-exhausted, peer-gone, queue-empty, interrupted, timed-out. */
static inline uint64_t nuncio_receive(uint64_t text_page, uint64_t port, uint64_t deadline, uint64_t buffer, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_RECEIVE, port, deadline, buffer, 0, 0, values);
}

/* Set bits of an event.
 *   event: event, with notify
 *   bits: the bits
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone. */
static inline uint64_t nuncio_notify(uint64_t text_page, uint64_t event, uint64_t bits)
{
    return nuncio_enter(text_page, NUNCIO_VERB_NOTIFY, event, bits, 0, 0, 0, NULL);
}

/* Sleep until an event is pending or a deadline has passed.
 *   deadline: deadline
 * Errors: bad-argument, timed-out. */
static inline uint64_t nuncio_wait(uint64_t text_page, uint64_t deadline)
{
    return nuncio_enter(text_page, NUNCIO_VERB_WAIT, deadline, 0, 0, 0, 0, NULL);
}

/* Put pages of a memory object into an address space.
 *   space: space, with map
 *   memory: memory
 *   address: guest-physical address
 *   offset: offset
 *   length: length in bytes in bits 12 to 63; access in bits 0 to 2
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, quota-exhausted, already-mapped, peer-gone. */
static inline uint64_t nuncio_map(uint64_t text_page, uint64_t space, uint64_t memory, uint64_t address, uint64_t offset, uint64_t length)
{
    return nuncio_enter(text_page, NUNCIO_VERB_MAP, space, memory, address, offset, length, NULL);
}

/* Take pages out of an address space.
 *   space: space, with map
 *   address: guest-physical address
 *   length: length in bytes
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, not-mapped, quota-exhausted. */
static inline uint64_t nuncio_unmap(uint64_t text_page, uint64_t space, uint64_t address, uint64_t length)
{
    return nuncio_enter(text_page, NUNCIO_VERB_UNMAP, space, address, length, 0, 0, NULL);
}

/* Drop a handle.
 *   handle: any handle
 * Errors: bad-argument, bad-handle. */
static inline uint64_t nuncio_close(uint64_t text_page, uint64_t handle)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CLOSE, handle, 0, 0, 0, 0, NULL);
}

/* Ask what a handle names and what it has used.
 *   handle: any handle
 *   item: the number of an item
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, peer-gone. */
static inline uint64_t nuncio_query(uint64_t text_page, uint64_t handle, uint64_t item, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_QUERY, handle, item, 0, 0, 0, values);
}

/* End a domain with an exit code, or stop a vcpu.
 *   object: domain or vcpu, with stop
 *   code: exit code
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, queue-full. */
static inline uint64_t nuncio_stop(uint64_t text_page, uint64_t object, uint64_t code)
{
    return nuncio_enter(text_page, NUNCIO_VERB_STOP, object, code, 0, 0, 0, NULL);
}

/* Make an object from the domain's own quota.
 *   frames: frames
 *   kernel_bytes: bytes of the hypervisor's memory
 *   event: event, with notify
 *   bits: the bits of it
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_domain(uint64_t text_page, uint64_t frames, uint64_t kernel_bytes, uint64_t event, uint64_t bits, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_DOMAIN, frames, kernel_bytes, event, bits, values);
}

/* Make an object from the domain's own quota.
 *   domain: domain, with build
 *   page: memory, with read+write
 *   monitor: port, with send
 *   state: memory, with read+write
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_vcpu(uint64_t text_page, uint64_t domain, uint64_t page, uint64_t monitor, uint64_t state, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_VCPU, domain, page, monitor, state, values);
}

/* Make an object from the domain's own quota.
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_space(uint64_t text_page, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_SPACE, 0, 0, 0, 0, values);
}

/* Make an object from the domain's own quota.
 *   length: length in bytes
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_memory(uint64_t text_page, uint64_t length, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_MEMORY, length, 0, 0, 0, values);
}

/* Make an object from the domain's own quota.
 *   capacity: capacity in messages
 *   slot: slot of the vcpu page
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_port(uint64_t text_page, uint64_t capacity, uint64_t slot, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_PORT, capacity, slot, 0, 0, values);
}

/* Make an object from the domain's own quota.
 *   slot: slot of the vcpu page
 *   interval: least nanoseconds
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_event(uint64_t text_page, uint64_t slot, uint64_t interval, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_EVENT, slot, interval, 0, 0, values);
}

/* Make an object from the domain's own quota.
 *   event: event, with notify
 *   bits: the bits
 * Returns first in rdx.
 * Returns second in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_create_timer(uint64_t text_page, uint64_t event, uint64_t bits, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CREATE, NUNCIO_KIND_TIMER, event, bits, 0, 0, values);
}

/* Make a weaker copy of a handle.
 *   handle: any handle, with grant
 *   rights: the rights
 *   badge: the badge
 *   to: domain, with build
 * Returns copy in rdx.
 * Returns zero in r10.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, quota-exhausted. */
static inline uint64_t nuncio_grant(uint64_t text_page, uint64_t handle, uint64_t rights, uint64_t badge, uint64_t to, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_GRANT, handle, rights, badge, to, 0, values);
}

/* Set the time of a timer.
 *   timer: timer, with arm
 *   deadline: deadline
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right. */
static inline uint64_t nuncio_arm(uint64_t text_page, uint64_t timer, uint64_t deadline)
{
    return nuncio_enter(text_page, NUNCIO_VERB_ARM, timer, deadline, 0, 0, 0, NULL);
}

/* Send a message and wait for the answer to it.
 *   port: port, with send
 *   header: header
 *   words: words of the message, or its address and zeros
 *   deadline: deadline
 * Returns header in rdx.
 * Returns zero in r10.
 * Returns words in r8, rdi, rsi.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, wrong-state, quota-exhausted, peer-gone, queue-full, timed-out. */
static inline uint64_t nuncio_call(uint64_t text_page, uint64_t port, uint64_t header, uint64_t words_0, uint64_t words_1, uint64_t deadline, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_CALL, port, header, words_0, words_1, deadline, values);
}

/* Answer a call, and receive the next message if asked to.
 *   port: port, with receive
 *   header: header
 *   words: words of the message, or its address and zeros
 * Returns header in rdx.
 * Returns badge in r10.
 * Returns words in r8, rdi, rsi.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, bad-address, peer-gone. */
static inline uint64_t nuncio_reply(uint64_t text_page, uint64_t port, uint64_t header, uint64_t words_0, uint64_t words_1, uint64_t words_2, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_REPLY, port, header, words_0, words_1, words_2, values);
}

/* Let a vcpu run.
 *   vcpu: vcpu, with start
 *   entry: guest-physical address
 *   stack: its stack pointer
 *   argument: what it finds in RDI
 *   page_table: guest-physical address of its first page tables
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, quota-exhausted. */
static inline uint64_t nuncio_start(uint64_t text_page, uint64_t vcpu, uint64_t entry, uint64_t stack, uint64_t argument, uint64_t page_table)
{
    return nuncio_enter(text_page, NUNCIO_VERB_START, vcpu, entry, stack, argument, page_table, NULL);
}

/* Run a vcpu until it needs its runner.
 *   vcpu: vcpu, with start
 *   space: space, with map
 *   resume: how it goes on
 *   results: results
 * Returns exit in rdx.
 * Returns where in r10.
 * Returns value in r8.
 * Returns zero in rdi, rsi.
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state, interrupted. */
static inline uint64_t nuncio_run(uint64_t text_page, uint64_t vcpu, uint64_t space, uint64_t resume, uint64_t results_0, uint64_t results_1, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_RUN, vcpu, space, resume, results_0, results_1, values);
}

/* Make the calls that stand in a ring.
 *   ring: guest-physical address
 *   entries: the most entries
 * Returns done in rdx.
 * Returns zero in r10.
 * Errors: bad-argument, bad-address. */
static inline uint64_t nuncio_submit(uint64_t text_page, uint64_t ring, uint64_t entries, struct nuncio_values *values)
{
    return nuncio_enter(text_page, NUNCIO_VERB_SUBMIT, ring, entries, 0, 0, 0, values);
}

/* Set the priority, the budget and the CPU of a vcpu.
 *   vcpu: vcpu, with schedule
 *   priority: its priority
 *   budget: its budget and the period of it in nanoseconds
 *   cpu: the number of its CPU
 * Errors: bad-argument, bad-handle, wrong-kind, missing-right, peer-gone, wrong-state. */
static inline uint64_t nuncio_schedule(uint64_t text_page, uint64_t vcpu, uint64_t priority, uint64_t budget_0, uint64_t budget_1, uint64_t cpu)
{
    return nuncio_enter(text_page, NUNCIO_VERB_SCHEDULE, vcpu, priority, budget_0, budget_1, cpu, NULL);
}

#endif

#endif
