/* A ring as the kernel lays it out, in a file: trace-ring.test.ts. Says what bpf/ring.c hands on. */
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../bpf/ring.h"

#define BYTES 65536
#define RECORD (sizeof(struct line) + BPF_RINGBUF_HDR_SZ)

static unsigned long *produced;
static unsigned char *data;
static unsigned long next;

static unsigned *put(unsigned flags) {
  unsigned *header = (unsigned *)(data + *produced % BYTES);
  *header = sizeof(struct line) | flags;
  ((struct line *)((unsigned char *)header + BPF_RINGBUF_HDR_SZ))->offset = ++next;
  *produced += RECORD;
  return header;
}

static void say(const struct line *line) {
  printf(" %llu", line->offset);
}

/* nginx goes on: for each record that is read there is a further one. */
static void say_and_put(const struct line *line) {
  say(line);
  put(0);
}

int main(void) {
  size_t page = getpagesize();
  int file = memfd_create("ring", 0);
  if (ftruncate(file, 2 * page + 2 * BYTES) || !map_ring(file, BYTES)) return 1;
  produced = mmap(0, page + BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, page);
  data = (unsigned char *)produced + page;

  for (int i = 0; i < 3; i++) put(0);
  printf("busy:");
  read_ring(say_and_put);
  printf("\nrest:");
  put(BPF_RINGBUF_DISCARD_BIT);
  put(0);
  read_ring(say);

  /* Of the first of two its program is not done. */
  unsigned *header = put(BPF_RINGBUF_BUSY_BIT);
  put(0);
  printf("\ninterrupted:");
  fflush(stdout);
  if (!fork()) {
    usleep(20000);
    printf(" done");
    fflush(stdout);
    __atomic_store_n(header, (unsigned)sizeof(struct line), __ATOMIC_RELEASE);
    _exit(0);
  }
  read_ring(say);
  printf("\nnothing:");
  read_ring(say);
  printf("\n");
  wait(0);
  return 0;
}
