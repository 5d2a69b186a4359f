// SPDX-License-Identifier: Apache-2.0
/*
 * Loads trace.bpf.c and attaches it to the places in nginx that it is told of. Its argument is the size of its ring in bytes, a
 * power of two. It reads commands, one a line, from stdin and
 * ends with it; it writes one line each to stdout:
 *
 *   add NAMESPACE ADDRESS, remove …    nginx's addresses whose lines are reported, by network namespace (inode)
 *   attach ID CHAIN FREE WRITE[,…] PATH  → attached ID, or failed ID REASON. Offsets in the file, decimal
 *   detach ID                          → detached ID
 *   sync N                             → synced N LOST CONTRADICTED NOT_A_REQUEST NOT_FOUND LINES, behind every line
 *                                        that was written before the command was read
 *
 * A line is `line AT INODE OFFSET LENGTH CHECK STATES UNCLEAR SOURCE [INDEX PORT ADDRESS PORT AT]…`: times in ms since the
 * epoch, the CRC-32 of the first MAX_CHECKED bytes, the entries of $upstream_addr, and for each attempt its place among them,
 * nginx's port, the address that was dialed, and when it was first written to.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "trace.h"

/* trace.bpf.o, as it is. */
__asm__(".section .rodata\n.balign 8\nprogram_begin:\n.incbin \"trace.bpf.o\"\nprogram_end:\n.previous");
extern const unsigned char program_begin[], program_end[];

/* linux/bpf.h of kernel 6.6; older headers lack them. */
#define TRACE_UPROBE_MULTI 48
#define LINK_CREATE 28

#define MAX_ATTACHED 64
#define MAX_WRITES 64
/* In the order of attaching: a request must not be seen to begin before its end can be seen. Detached in reverse. */
static const char *const NAMES[] = { "on_write", "on_free", "on_chain" };
enum { WRITE, FREE, CHAIN, PROGRAMS };

static struct { unsigned id; int links[PROGRAMS]; } attached[MAX_ATTACHED];
static int programs[PROGRAMS], places_map, counters, workers;
static unsigned crc_table[256];

static void make_crc_table(void) {
  for (unsigned i = 0; i < 256; i++) {
    unsigned value = i;
    for (int k = 0; k < 8; k++) value = value & 1 ? 0xedb88320u ^ value >> 1 : value >> 1;
    crc_table[i] = value;
  }
}

static unsigned crc32(const unsigned char *bytes, unsigned length) {
  unsigned value = ~0u;
  while (length--) value = crc_table[(value ^ *bytes++) & 255] ^ value >> 8;
  return ~value;
}

static unsigned long long ns_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/*
 * What to add to CLOCK_MONOTONIC for the time since the epoch (ns). It changes only when the clock is set: of all readings the
 * one is kept that was taken in the shortest time, as this process may wait for its turn within one.
 */
#define CLOCKS_EXACT_TO 10000
static struct { unsigned long long offset, error; } to_wall = { 0, ~0ull };
/* Times that the clock was set: the lines that are read then may have been written before. */
static unsigned long long clock_set;

static void read_clocks_once(void) {
  unsigned long long before = ns_of(CLOCK_MONOTONIC), wall = ns_of(CLOCK_REALTIME), after = ns_of(CLOCK_MONOTONIC);
  unsigned long long offset = wall - before, error = after - before;
  /* The true one is not larger than `offset`, and smaller by `error` at most. */
  long long later = (long long)(offset - to_wall.offset);
  /* And a microsecond for the kernel's rounding. */
  int fits = to_wall.error != ~0ull && later >= -(long long)to_wall.error - 1000 && later <= (long long)error + 1000;
  if (to_wall.error != ~0ull && !fits) clock_set++;
  if (fits && to_wall.error <= error) return;
  to_wall.offset = offset;
  to_wall.error = error;
}

static void read_clocks(void) {
  read_clocks_once();
  for (int i = 0; i < 1000 && to_wall.error > CLOCKS_EXACT_TO; i++) read_clocks_once();
}

static void print_time(unsigned long long monotonic) {
  unsigned long long wall = (monotonic + to_wall.offset) / 1000;
  printf(" %llu.%03llu", wall / 1000, wall % 1000);
}

static void print_address(const unsigned char *bytes) {
  static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
  char text[INET6_ADDRSTRLEN];
  int is_mapped = !memcmp(bytes, mapped, sizeof mapped);
  inet_ntop(is_mapped ? AF_INET : AF_INET6, is_mapped ? bytes + 12 : bytes, text, sizeof text);
  printf(" %s", text);
}

static int parse_address(const char *text, unsigned char *bytes) {
  memset(bytes, 0, 16);
  if (inet_pton(AF_INET6, text, bytes) == 1) return 1;
  memset(bytes + 10, 0xff, 2);
  return inet_pton(AF_INET, text, bytes + 12) == 1;
}

static void print_line(const struct line *line) {
  unsigned bytes = line->length < MAX_CHECKED ? line->length : MAX_CHECKED;
  fputs("line", stdout);
  print_time(line->at);
  printf(" %llu %llu %u %u %u %u", line->inode, line->offset, line->length, crc32(line->bytes, bytes), line->states,
         line->unclear);
  print_address(line->source);
  for (unsigned i = 0; i < line->attempts && i < MAX_ATTEMPTS; i++) {
    const struct attempt *attempt = &line->attempt[i];
    printf(" %u %u", attempt->index, attempt->source_port);
    print_address(attempt->dialed);
    printf(" %u", attempt->dialed_port);
    print_time(attempt->at);
  }
  putchar('\n');
}

/*
 * The ring, as the kernel lays it out for mmap (kernel/bpf/ringbuf.c): positions grow for ever, the data is there twice in a row.
 * libbpf's reading ends only when there is nothing more, which a busy nginx can put off for as long as it is busy.
 */
static struct { unsigned long *consumed; const unsigned long *produced; const unsigned char *data; unsigned bytes; } ring;

static int map_ring(int records, unsigned bytes) {
  size_t page = getpagesize();
  void *own = mmap(0, page, PROT_READ | PROT_WRITE, MAP_SHARED, records, 0);
  void *theirs = mmap(0, page + 2 * (size_t)bytes, PROT_READ, MAP_SHARED, records, page);
  if (own == MAP_FAILED || theirs == MAP_FAILED) return 0;
  ring.consumed = own;
  ring.produced = theirs;
  ring.data = (unsigned char *)theirs + page;
  ring.bytes = bytes;
  return 1;
}

/* Prints what was in the ring at this call: a line may be written once its record has its place there. */
static void read_ring(void) {
  unsigned long at = *ring.consumed, until = __atomic_load_n(ring.produced, __ATOMIC_ACQUIRE);
  while (at < until) {
    const unsigned char *record = ring.data + (at & (ring.bytes - 1));
    unsigned header = __atomic_load_n((const unsigned *)record, __ATOMIC_ACQUIRE);
    if (header & BPF_RINGBUF_BUSY_BIT) {
      /* Its program was interrupted while it was copying. The lines behind it may be in the log. */
      sched_yield();
      continue;
    }
    unsigned length = header & ~BPF_RINGBUF_DISCARD_BIT;
    if (header == length) print_line((const struct line *)(record + BPF_RINGBUF_HDR_SZ));
    at += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7ul;
    __atomic_store_n(ring.consumed, at, __ATOMIC_RELEASE);
  }
}

static int attach(int program, const char *path, const unsigned long *offsets, unsigned count, unsigned long long id) {
  unsigned long long cookies[MAX_WRITES];
  for (unsigned i = 0; i < count; i++) cookies[i] = id;
  union {
    struct {
      unsigned program, target, type, flags;
      unsigned long long path, offsets, references, cookies;
      unsigned count, multi_flags, pid;
    } link;
    char room[128];
  } attr;
  memset(&attr, 0, sizeof attr);
  attr.link.program = program;
  attr.link.type = TRACE_UPROBE_MULTI;
  attr.link.path = (unsigned long)path;
  attr.link.offsets = (unsigned long)offsets;
  attr.link.cookies = (unsigned long)cookies;
  attr.link.count = count;
  return syscall(SYS_bpf, LINK_CREATE, &attr, sizeof attr.link);
}

/* A worker that the links watched may be watched by others from now on. */
static void forget_workers(unsigned long long id) {
  unsigned key, next;
  /* The owner is the second word of struct worker (trace.bpf.c). */
  static unsigned long long worker[1024];
  int more = !bpf_map_get_next_key(workers, 0, &next);
  while (more) {
    key = next;
    more = !bpf_map_get_next_key(workers, &key, &next);
    if (!bpf_map_lookup_elem(workers, &key, worker) && worker[1] == id) bpf_map_delete_elem(workers, &key);
  }
}

static void detach(unsigned id) {
  for (int i = 0; i < MAX_ATTACHED; i++) {
    if (attached[i].id != id) continue;
    for (int k = PROGRAMS - 1; k >= 0; k--)
      if (attached[i].links[k] >= 0) close(attached[i].links[k]);
    attached[i].id = 0;
    forget_workers(id);
  }
}

static void attach_all(unsigned id, unsigned long chain, unsigned long freeing, char *writes, const char *path) {
  unsigned long places[PROGRAMS][MAX_WRITES] = { [FREE] = { freeing }, [CHAIN] = { chain } };
  unsigned counts[PROGRAMS] = { [FREE] = 1, [CHAIN] = 1 };
  for (char *at = strtok(writes, ","); at && counts[WRITE] < MAX_WRITES; at = strtok(0, ","))
    places[WRITE][counts[WRITE]++] = strtoul(at, 0, 10);
  int slot = 0;
  while (slot < MAX_ATTACHED && attached[slot].id) slot++;
  if (slot == MAX_ATTACHED) {
    printf("failed %u more than %d files of nginx\n", id, MAX_ATTACHED);
    return;
  }
  attached[slot].id = id;
  for (int k = 0; k < PROGRAMS; k++) attached[slot].links[k] = -1;
  for (int k = 0; k < PROGRAMS; k++) {
    attached[slot].links[k] = attach(programs[k], path, places[k], counts[k], id);
    if (attached[slot].links[k] >= 0) continue;
    printf("failed %u %s\n", id, strerror(errno));
    detach(id);
    return;
  }
  printf("attached %u\n", id);
}

static void sync_to(unsigned long long number) {
  read_ring();
  printf("synced %llu", number);
  for (unsigned i = 0; i < COUNTERS; i++) {
    unsigned long long value = 0;
    bpf_map_lookup_elem(counters, &i, &value);
    if (i == CONTRADICTED) value += clock_set;
    printf(" %llu", value);
  }
  putchar('\n');
}

static void command(char *text) {
  struct place place = { .unused = 0 };
  unsigned char yes = 1;
  char writes[2048], path[512], ip[64];
  unsigned id;
  unsigned long chain, freeing;
  unsigned long long number;
  if (sscanf(text, "add %u %63s", &place.namespace, ip) == 2 && parse_address(ip, place.address))
    bpf_map_update_elem(places_map, &place, &yes, BPF_ANY);
  else if (sscanf(text, "remove %u %63s", &place.namespace, ip) == 2 && parse_address(ip, place.address))
    bpf_map_delete_elem(places_map, &place);
  else if (sscanf(text, "attach %u %lu %lu %2047s %511s", &id, &chain, &freeing, writes, path) == 5 && id)
    attach_all(id, chain, freeing, writes, path);
  else if (sscanf(text, "detach %u", &id) == 1 && id) {
    detach(id);
    printf("detached %u\n", id);
  } else if (sscanf(text, "sync %llu", &number) == 1) sync_to(number);
}

static int refuse(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  return 1;
}

static int be_silent(enum libbpf_print_level level, const char *format, va_list arguments) {
  (void)level, (void)format, (void)arguments;
  return 0;
}

int main(int count, char **arguments) {
  unsigned bytes = count > 1 ? strtoul(arguments[1], 0, 10) : RING_BYTES;
  make_crc_table();
  libbpf_set_print(be_silent);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "realpod");
  struct bpf_object *object = bpf_object__open_mem(program_begin, program_end - program_begin, &options);
  if (!object) return refuse("the program cannot be read");
  for (int k = 0; k < PROGRAMS; k++)
    bpf_program__set_expected_attach_type(bpf_object__find_program_by_name(object, NAMES[k]), TRACE_UPROBE_MULTI);
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "records"), bytes);
  if (bpf_object__load(object)) return refuse("the kernel does not take the program (BPF and PERFMON, Linux 6.6)");
  for (int k = 0; k < PROGRAMS; k++)
    programs[k] = bpf_program__fd(bpf_object__find_program_by_name(object, NAMES[k]));
  places_map = bpf_object__find_map_fd_by_name(object, "places");
  counters = bpf_object__find_map_fd_by_name(object, "counters");
  workers = bpf_object__find_map_fd_by_name(object, "workers");
  int records = bpf_object__find_map_fd_by_name(object, "records");
  if (!map_ring(records, bytes)) return refuse("the ring of the records cannot be read");
  static char text[8192];
  size_t used = 0;
  puts("ready");
  for (;;) {
    if (fflush(stdout)) return 0;
    struct pollfd ready[2] = { { .fd = 0, .events = POLLIN }, { .fd = records, .events = POLLIN } };
    if (poll(ready, 2, -1) < 0) continue;
    read_clocks();
    if (ready[1].revents) read_ring();
    if (!ready[0].revents) continue;
    ssize_t got = read(0, text + used, sizeof text - 1 - used);
    if (got <= 0) return 0;
    used += got;
    text[used] = 0;
    char *begin = text;
    for (char *end; (end = strchr(begin, '\n')); begin = end + 1) {
      *end = 0;
      command(begin);
    }
    used -= begin - text;
    memmove(text, begin, used);
    /* A command longer than any is none. */
    if (used == sizeof text - 1) used = 0;
  }
}
