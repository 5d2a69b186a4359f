/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What trace.bpf.c hands to loader.c: one record for each write of an access line. */
#ifndef REALPOD_TRACE_H
#define REALPOD_TRACE_H

/* Attempts of one request that are kept; of a request with more, none is claimed. */
#define MAX_ATTEMPTS 8
/* Bytes of a line that its check covers. A power of two. */
#define MAX_CHECKED 1024

/* Bytes of a log's buffer; of a larger one nothing is said, and what is flushed of it is lost. */
#define MAX_FLUSH (1024 * 1024)

/*
 * The cookie of a probe: the number of the executable, and above it, signed, how far `ngx_http_log_module` is from the probe in
 * ngx_http_free_request (bytes; 0: it is not known).
 */
#define COOKIE(id, distance) ((unsigned long long)(distance) << 16 | (id))
#define DISTANCE(cookie) ((long long)(cookie) >> 16)

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

/*
 * What the ring holds: LINE, an access line that is about to be written to its file. HELD, one that nginx has put into a log's
 * buffer (`access_log … buffer=`). FLUSH, what is about to be written otherwise, such as that buffer.
 */
enum { LINE, HELD, FLUSH };

struct line {
  unsigned int kind;
  /* Of the line, or of what is flushed (bytes). */
  unsigned int length;
  /* CLOCK_MONOTONIC (ns), just before write(2). */
  unsigned long long at;
  unsigned long long inode;
  /* The file's size just before write(2); of a HELD one its place in the buffer. */
  unsigned long long offset;
  /* The cookie of the probe. */
  unsigned long long owner;
  /* Of HELD and FLUSH: the worker, by thread and start, the buffer, and the number of its flushes, this one included. */
  unsigned long long start, buffer, flushes;
  unsigned int thread;
  /* Entries of r->upstream_states. */
  unsigned int states;
  unsigned int attempts;
  /* More attempts than are kept, or contradictory ones: the line is not to be named. */
  unsigned int unclear;
  /* Attempts that there is room for. */
  unsigned int room, unused;
  /* An address of nginx that was subscribed when it last used an upstream. */
  unsigned char source[16];
  /* Room for as many as `room` says, and behind it the bytes of LINE, up to MAX_CHECKED, and all of FLUSH. */
  struct attempt attempt[];
};

/* Indices of the counters. The last one is a switch: whether the buffers of logs are looked at. */
enum { LOST, CONTRADICTED, NOT_A_REQUEST, NOT_FOUND, LINES, COUNTERS, BUFFERS = COUNTERS, COUNTERS_AND_SWITCH };

#define RING_BYTES (16 * 1024 * 1024)

#endif
