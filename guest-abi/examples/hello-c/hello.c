/* A whole guest in C: says hello, reads the clock, and stops. Exit codes other than 0 say what was not
 * as the specification promises. */

#include "nuncio.h"

enum { OK, NO_BOOT_INFO, WRONG_VERSION, NO_CONSOLE, REFUSED, CLOCK_RUNS_BACKWARDS };

static const struct nuncio_boot_info *info;
static uint64_t console;

static int is_equal(const char *one, const char *other)
{
    while (*one != '\0' && *one == *other) {
        one++;
        other++;
    }
    return *one == *other;
}

/* The handle of that name, or 0, which is never one. */
static uint64_t handle(const char *name)
{
    for (uint64_t i = 0; i < info->handle_count; i++)
        if (is_equal(info->handles[i].name, name))
            return info->handles[i].handle;
    return 0;
}

static void stop(uint64_t code)
{
    nuncio_stop(info->text_page, handle("domain"), code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Eight bytes at a time, in a register. */
static void print(const char *text)
{
    while (*text != '\0') {
        uint64_t length = 0, word = 0;

        for (; length < 8 && *text != '\0'; length++)
            word |= (uint64_t)(unsigned char)*text++ << 8 * length;
        if (nuncio_send(info->text_page, console, length, word, 0, 0) != 0)
            stop(REFUSED);
    }
}

static void print_number(uint64_t number)
{
    char digits[21];
    char *first = digits + 20;

    *first = '\0';
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    print(first);
}

/* Nanoseconds since the hypervisor started. Our pages map every address to itself. */
static uint64_t now_ns(void)
{
    return nuncio_clock(info->text_page, info->time_page);
}

void start(const struct nuncio_boot_info *boot_info)
{
    struct nuncio_values values;
    uint64_t first, second;

    info = boot_info;
    if (info->magic != NUNCIO_BOOT_INFO_MAGIC)
        stop(NO_BOOT_INFO);
    console = handle("console");
    if (console == 0)
        stop(NO_CONSOLE);
    if (nuncio_hello(info->text_page, NUNCIO_VERSION, &values) != 0 || values.rdx != info->version)
        stop(WRONG_VERSION);

    print("hello from C in ");
    print(info->name);
    print("\n");
    first = now_ns();
    /* There is no item 99, and 0 is never a handle. */
    if (nuncio_query(info->text_page, 0, 99, &values) != NUNCIO_ERROR_BAD_ARGUMENT ||
        nuncio_close(info->text_page, 0) != NUNCIO_ERROR_BAD_HANDLE)
        stop(REFUSED);
    second = now_ns();
    if (first == 0 || second < first)
        stop(CLOCK_RUNS_BACKWARDS);
    print("the clock says ");
    print_number(second);
    print(" ns\n");
    stop(OK);
}

NUNCIO_NOTE(start);
