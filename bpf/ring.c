// SPDX-License-Identifier: Apache-2.0
#include <linux/bpf.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include "ring.h"

/*
 * The ring, as the kernel lays it out for mmap (kernel/bpf/ringbuf.c): positions grow for ever, the data is there twice in a row.
 * libbpf's reading ends only when there is nothing more, which a busy nginx can put off for as long as it is busy.
 */
static struct { unsigned long *consumed; const unsigned long *produced; const unsigned char *data; unsigned bytes; } ring;

int map_ring(int records, unsigned bytes) {
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

void read_ring(void (*each)(const struct line *)) {
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
    if (header == length) each((const struct line *)(record + BPF_RINGBUF_HDR_SZ));
    at += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7ul;
    __atomic_store_n(ring.consumed, at, __ATOMIC_RELEASE);
  }
}
