// SPDX-License-Identifier: Apache-2.0
/*
 * Says of each line in the ring what loader.c's comment describes. What nginx holds in a log's buffer is kept here until it is
 * flushed: then it is known where in the file it will be.
 */
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lines.h"

/* Lines that nginx's buffers hold. Most have 200 bytes. At the limit all are forgotten. */
#define MAX_HELD 32768
/* Workers by their threads' numbers; of two with one place the later one is known. */
#define WRITERS 1024

static unsigned crc_table[256];

void make_crc_table(void) {
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
unsigned long long clock_set;

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

void read_clocks(void) {
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

/* A line as it will be in the file; `request`: what is known of it, or that nothing is. */
static void print_line(const struct line *write, const struct line *request, unsigned place, unsigned length,
                       const unsigned char *bytes) {
  fputs("line", stdout);
  print_time(write->at);
  printf(" %llu %llu %u %u %u %u", write->inode, write->offset + place, length,
         crc32(bytes, length < MAX_CHECKED ? length : MAX_CHECKED), request->states, request->unclear);
  print_address(write->source);
  for (unsigned i = 0; i < request->attempts && i < MAX_ATTEMPTS; i++) {
    const struct attempt *attempt = &request->attempt[i];
    printf(" %u %u", attempt->index, attempt->source_port);
    print_address(attempt->dialed);
    printf(" %u", attempt->dialed_port);
    print_time(attempt->at);
  }
  putchar('\n');
}

/* A HELD record, and the next one of its worker. */
struct held { struct held *next; struct line line; };
static struct writer {
  unsigned thread;
  unsigned long long start, flushes;
  struct held *first, *last;
} writers[WRITERS];
static unsigned held;
unsigned long long forgotten;

static void forget(struct writer *writer) {
  for (struct held *next; writer->first; writer->first = next) {
    next = writer->first->next;
    free(writer->first);
    held--;
    forgotten++;
  }
}

/* The record's worker. Where one of its flushes was not seen, it is not known what its buffers hold. */
static struct writer *writer_of(const struct line *line) {
  struct writer *writer = &writers[line->thread % WRITERS];
  unsigned long long before = line->flushes - (line->kind == FLUSH);
  if (writer->thread != line->thread || writer->start != line->start || writer->flushes != before) forget(writer);
  writer->thread = line->thread;
  writer->start = line->start;
  writer->flushes = line->flushes;
  return writer;
}

static void hold(const struct line *line) {
  struct writer *writer = writer_of(line);
  if (held >= MAX_HELD)
    for (unsigned i = 0; i < WRITERS; i++) forget(&writers[i]);
  size_t size = sizeof *line + line->room * sizeof line->attempt[0];
  struct held *one = malloc(offsetof(struct held, line) + size);
  if (!one) return;
  memcpy(&one->line, line, size);
  one->next = 0;
  if (writer->first) writer->last->next = one;
  else writer->first = one;
  writer->last = one;
  held++;
}

/* Takes what the buffer held out of the worker's list, in its order. */
static struct held *take(struct writer *writer, unsigned long long buffer) {
  struct held *taken = 0, **end = &taken, *kept = 0, **last = &kept, *one = writer->first;
  writer->last = 0;
  for (struct held *next; one; one = next) {
    next = one->next;
    one->next = 0;
    if (one->line.buffer == buffer) {
      *end = one;
      end = &one->next;
      continue;
    }
    *last = writer->last = one;
    last = &one->next;
  }
  writer->first = kept;
  return taken;
}

/* Each line of it: that of the request which put exactly these bytes there, or of none that is known. */
static void print_flush(const struct line *flush) {
  static const struct line nothing = { .unclear = 1 };
  const unsigned char *bytes = (const unsigned char *)(flush + 1);
  struct held *first = take(writer_of(flush), flush->buffer);
  for (unsigned begin = 0, end; begin < flush->length; begin = end) {
    const unsigned char *newline = memchr(bytes + begin, '\n', flush->length - begin);
    end = newline ? newline - bytes + 1 : flush->length;
    struct held *next = first;
    while (next && next->line.offset < begin) next = next->next;
    int is_its = next && next->line.offset == begin && next->line.length == end - begin;
    print_line(flush, is_its ? &next->line : &nothing, begin, end - begin, bytes + begin);
    for (struct held *after; first != next; first = after) {
      after = first->next;
      free(first);
      held--;
    }
  }
  for (struct held *after; first; first = after) {
    after = first->next;
    free(first);
    held--;
  }
}

void read_record(const struct line *line) {
  if (line->kind == LINE) print_line(line, line, 0, line->length, (const unsigned char *)&line->attempt[line->room]);
  else if (line->kind == HELD) hold(line);
  else print_flush(line);
}
