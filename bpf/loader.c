// SPDX-License-Identifier: Apache-2.0
/*
 * Loads trace.bpf.c and attaches it to the places in nginx that it is told of. Its argument is the size of its ring in bytes, a
 * power of two. It reads commands, one a line, from stdin and
 * ends with it; it writes one line each to stdout:
 *
 *   add NAMESPACE ADDRESS, remove …    nginx's addresses whose lines are reported, by network namespace (inode)
 *   attach ID CHAIN FREE LOGGED MODULE WRITE[,…] PATH
 *                                      → attached ID, or failed ID REASON. Offsets in the file, decimal; MODULE: how far
 *                                        ngx_http_log_module is from FREE in memory. Both may be 0
 *   detach ID                          → detached ID
 *   sync N                             → synced N LOST CONTRADICTED NOT_A_REQUEST NOT_FOUND LINES, behind every line
 *                                        that was written before the command was read
 *
 * A line is `line AT INODE OFFSET LENGTH CHECK STATES UNCLEAR SOURCE [INDEX PORT ADDRESS PORT AT]…`: times in ms since the
 * epoch, the CRC-32 of the first MAX_CHECKED bytes, the entries of $upstream_addr, and for each attempt its place among them,
 * nginx's port, the address that was dialed, and when it was first written to.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lines.h"
#include "ring.h"

/* trace.bpf.o, as it is. */
__asm__(".section .rodata\n.balign 8\nprogram_begin:\n.incbin \"trace.bpf.o\"\nprogram_end:\n.previous");
extern const unsigned char program_begin[], program_end[];

/* linux/bpf.h of kernel 6.6; older headers lack them. */
#define TRACE_UPROBE_MULTI 48
#define LINK_CREATE 28

#define MAX_ATTACHED 64
#define MAX_WRITES 64
/* In the order of attaching: a request must not be seen to begin before its end can be seen. Detached in reverse. */
static const char *const NAMES[] = { "on_write", "on_free", "on_chain", "on_logged" };
enum { WRITE, FREE, CHAIN, LOGGED, PROGRAMS };

/* `logged`: where ngx_http_free_request calls ngx_destroy_pool, probed once a log has been flushed; 0: it is, or it cannot be. */
static struct { unsigned id; int links[PROGRAMS], file; unsigned long logged; unsigned long long cookie; } attached[MAX_ATTACHED];
static int programs[PROGRAMS], places_map, counters, workers;

static int parse_address(const char *text, unsigned char *bytes) {
  memset(bytes, 0, 16);
  if (inet_pton(AF_INET6, text, bytes) == 1) return 1;
  memset(bytes + 10, 0xff, 2);
  return inet_pton(AF_INET, text, bytes + 12) == 1;
}

static int attach(int program, const char *path, const unsigned long *offsets, unsigned count,
                  unsigned long long cookie) {
  unsigned long long cookies[MAX_WRITES];
  for (unsigned i = 0; i < count; i++) cookies[i] = cookie;
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

/*
 * Of an executable whose workers flush logs, the probe behind the log is attached, too: it costs others nothing. What was in the
 * buffers before has no request that is known.
 */
static void watch_buffers(unsigned long long cookie) {
  static const unsigned which = BUFFERS;
  static const unsigned long long yes = 1;
  for (int i = 0; i < MAX_ATTACHED; i++) {
    if (!attached[i].id || attached[i].cookie != cookie || !attached[i].logged) continue;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", attached[i].file);
    attached[i].links[LOGGED] = attach(programs[LOGGED], path, &attached[i].logged, 1, cookie);
    attached[i].logged = 0;
    bpf_map_update_elem(counters, &which, &yes, BPF_ANY);
  }
}

/* A worker that the links watched may be watched by others from now on. */
static void forget_workers(unsigned long long cookie) {
  unsigned key, next;
  /* The owner is the second word of struct worker (trace.bpf.c). */
  static unsigned long long worker[1024];
  int more = !bpf_map_get_next_key(workers, 0, &next);
  while (more) {
    key = next;
    more = !bpf_map_get_next_key(workers, &key, &next);
    if (!bpf_map_lookup_elem(workers, &key, worker) && worker[1] == cookie) bpf_map_delete_elem(workers, &key);
  }
}

static void detach(unsigned id) {
  for (int i = 0; i < MAX_ATTACHED; i++) {
    if (attached[i].id != id) continue;
    for (int k = PROGRAMS - 1; k >= 0; k--)
      if (attached[i].links[k] >= 0) close(attached[i].links[k]);
    close(attached[i].file);
    attached[i].id = 0;
    forget_workers(attached[i].cookie);
  }
}

static void attach_all(unsigned id, const unsigned long *at, long module, char *writes, const char *path) {
  unsigned long places[PROGRAMS][MAX_WRITES] = { [FREE] = { at[FREE] }, [CHAIN] = { at[CHAIN] } };
  unsigned counts[PROGRAMS] = { [FREE] = 1, [CHAIN] = 1 };
  for (char *each = strtok(writes, ","); each && counts[WRITE] < MAX_WRITES; each = strtok(0, ","))
    places[WRITE][counts[WRITE]++] = strtoul(each, 0, 10);
  int slot = 0;
  while (slot < MAX_ATTACHED && attached[slot].id) slot++;
  if (slot == MAX_ATTACHED) {
    printf("failed %u more than %d files of nginx\n", id, MAX_ATTACHED);
    return;
  }
  unsigned long long cookie = COOKIE(id, module);
  attached[slot].id = id;
  attached[slot].cookie = cookie;
  attached[slot].logged = module ? at[LOGGED] : 0;
  attached[slot].file = open(path, O_PATH | O_CLOEXEC);
  for (int k = 0; k < PROGRAMS; k++) attached[slot].links[k] = -1;
  for (int k = 0; k < LOGGED; k++) {
    attached[slot].links[k] = attach(programs[k], path, places[k], counts[k], cookie);
    if (attached[slot].links[k] >= 0) continue;
    printf("failed %u %s\n", id, strerror(errno));
    detach(id);
    return;
  }
  printf("attached %u\n", id);
}

static void take_record(const struct line *line) {
  if (line->kind == FLUSH) watch_buffers(line->owner);
  read_record(line);
}

static void sync_to(unsigned long long number) {
  read_ring(take_record);
  printf("synced %llu", number);
  for (unsigned i = 0; i < COUNTERS; i++) {
    unsigned long long value = 0;
    bpf_map_lookup_elem(counters, &i, &value);
    if (i == CONTRADICTED) value += clock_set;
    if (i == NOT_FOUND) value += forgotten;
    printf(" %llu", value);
  }
  putchar('\n');
}

static void command(char *text) {
  struct place place = { .unused = 0 };
  unsigned char yes = 1;
  char writes[2048], path[512], ip[64];
  unsigned id;
  unsigned long at[PROGRAMS];
  long module;
  unsigned long long number;
  if (sscanf(text, "add %u %63s", &place.namespace, ip) == 2 && parse_address(ip, place.address))
    bpf_map_update_elem(places_map, &place, &yes, BPF_ANY);
  else if (sscanf(text, "remove %u %63s", &place.namespace, ip) == 2 && parse_address(ip, place.address))
    bpf_map_delete_elem(places_map, &place);
  else if (sscanf(text, "attach %u %lu %lu %lu %ld %2047s %511s", &id, &at[CHAIN], &at[FREE], &at[LOGGED], &module, writes, path) == 7 && id)
    attach_all(id, at, module, writes, path);
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
    if (ready[1].revents) read_ring(take_record);
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
