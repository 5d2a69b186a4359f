/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What trace.bpf.c hands to loader.c: one record for each write of an access line. */
#ifndef REALPOD_TRACE_H
#define REALPOD_TRACE_H

/* Attempts of one request that are kept; of a request with more, none is claimed. */
#define MAX_ATTEMPTS 8
/* Bytes of a line that its check covers. A power of two. */
#define MAX_CHECKED 1024

/* An address of nginx in a network namespace, which is subscribed: other namespaces may have the same address. */
struct place {
  unsigned char address[16];
  unsigned int namespace, unused;
};

/* The connection that an attempt's request was written to. Addresses of IPv4 are mapped into IPv6 (::ffff:0:0/96). */
struct attempt {
  unsigned long long request;
  /* CLOCK_MONOTONIC (ns) of the first write. */
  unsigned long long at;
  unsigned char source[16];
  unsigned char dialed[16];
  /* The place in r->upstream_states. */
  unsigned short index;
  unsigned short source_port;
  unsigned short dialed_port;
  unsigned short unused;
};

struct line {
  /* CLOCK_MONOTONIC (ns), just before write(2). */
  unsigned long long at;
  unsigned long long inode;
  /* The file's size just before write(2). */
  unsigned long long offset;
  unsigned int length;
  /* Entries of r->upstream_states. */
  unsigned int states;
  unsigned int attempts;
  /* More attempts than are kept, or contradictory ones: the line is not to be named. */
  unsigned int unclear;
  /* An address of nginx that was subscribed when it last used an upstream. */
  unsigned char source[16];
  struct attempt attempt[MAX_ATTEMPTS];
  unsigned char bytes[MAX_CHECKED];
};

/* Indices of the counters. */
enum { LOST, CONTRADICTED, NOT_A_REQUEST, NOT_FOUND, LINES, COUNTERS };

#define RING_BYTES (16 * 1024 * 1024)

#endif
