/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of trace.bpf.c keep of nginx's workers, and how they read their memory and the kernel's. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "trace.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;
#define true 1
#define false 0

char LICENSE[] SEC("license") = "GPL";

/* The members of the kernel's structures that are read; libbpf finds their offsets in the running kernel (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct inode { u16 i_mode; u64 i_ino; u64 i_size; };
struct file { struct inode *f_inode; u32 f_flags; void *private_data; };
struct fdtable { u32 max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct task_struct { struct files_struct *files; u64 start_time; };
struct in6_addr { u8 bytes[16]; };
struct ns_common { u32 inum; };
struct net { struct ns_common ns; };
typedef struct { struct net *net; } possible_net_t;
struct sock_common {
  u16 skc_family, skc_num, skc_dport;
  u32 skc_rcv_saddr, skc_daddr;
  struct in6_addr skc_v6_rcv_saddr, skc_v6_daddr;
  possible_net_t skc_net;
};
struct sock { struct sock_common __sk_common; };
struct socket { struct sock *sk; };
#pragma clang attribute pop

#define AF_INET 2
#define AF_INET6 10
#define REGULAR_FILE 0100000
#define FILE_TYPE 0170000
#define APPENDS 02000
/* "HTTP", the signature of ngx_http_request_t. */
#define SIGNATURE 0x50545448
/* Blocks of a pool that are looked through, small and large ones each. */
#define MAX_BLOCKS 12
/* An upstream's writer is a member of its ngx_http_upstream_t, which is smaller than this (bytes). */
#define UPSTREAM_BYTES 4096
/* Logs of one request that are looked at for buffers. */
#define MAX_BUFFERS 4

/* Requests in progress by client connection: a connection's pointer is unique within a process, and its start among all. */
struct client { u64 start, connection; };
struct request { u64 owner; u32 attempts, unclear; struct attempt attempt[MAX_ATTEMPTS]; };
/* A log's buffer (ngx_http_log_buf_t) when a request is freed: where it lies and begins, and how much is in it. */
struct buffer { u64 at, start; u32 used, unused; };
/*
 * A worker that uses upstreams from a subscribed address, and the request that it frees. Where a file is attached to by two
 * paths each probe runs twice; all but those of the owner are ignored.
 */
struct worker {
  u64 start, owner;
  /* r->upstream is this far into the request. */
  u64 upstream_offset;
  u8 source[16];
  u64 request, pool, frame, returns_to;
  u32 states, buffers;
  /* Buffers that it has flushed, or has seemed to. */
  u64 flushes;
  struct request freed;
  /* Those that the request's lines may go to. */
  struct buffer buffer[MAX_BUFFERS];
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, RING_BYTES); } records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, COUNTERS_AND_SWITCH); __type(key, u32); __type(value, u64); } counters SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, struct place); __type(value, u8); } places SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 32768); __type(key, struct client); __type(value, struct request); } requests SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, struct worker); } workers SEC(".maps");
/*
 * What a new worker or request begins as: zeros, never written to. A program may be interrupted by another one on its CPU, so none
 * has a place there of its own; a record is made where it will be read, and a worker's and its requests' entries only its own
 * thread writes to.
 */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct worker); } no_worker SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct request); } no_request SEC(".maps");

static __always_inline void count(u32 which) {
  u64 *counter = bpf_map_lookup_elem(&counters, &which);
  if (counter) __sync_fetch_and_add(counter, 1);
}

/* A word of nginx's memory; 0 where it cannot be read. */
static __always_inline u64 word(u64 address) {
  u64 value = 0;
  bpf_probe_read_user(&value, sizeof value, (void *)address);
  return value;
}

static __always_inline u64 started(void) {
  struct task_struct *task = (void *)bpf_get_current_task();
  return BPF_CORE_READ(task, start_time);
}

static __always_inline struct file *file_of(u32 fd) {
  struct task_struct *task = (void *)bpf_get_current_task();
  struct fdtable *table = BPF_CORE_READ(task, files, fdt);
  struct file *file = 0;
  if (fd >= BPF_CORE_READ(table, max_fds)) return 0;
  bpf_probe_read_kernel(&file, sizeof file, BPF_CORE_READ(table, fd) + fd);
  return file;
}

static __always_inline void map_address(u8 *to, u32 address) {
  __builtin_memset(to, 0, 16);
  to[10] = to[11] = 0xff;
  __builtin_memcpy(to + 12, &address, 4);
}

/* Both ends of a TCP connection, as nginx's socket has them, and its network namespace; 0: it is none. */
static __always_inline u32 read_socket(u32 fd, struct attempt *attempt) {
  struct file *file = file_of(fd);
  if (!file) return 0;
  struct socket *socket = BPF_CORE_READ(file, private_data);
  struct sock *sock = BPF_CORE_READ(socket, sk);
  u16 family = BPF_CORE_READ(sock, __sk_common.skc_family);
  if (family == AF_INET) {
    map_address(attempt->source, BPF_CORE_READ(sock, __sk_common.skc_rcv_saddr));
    map_address(attempt->dialed, BPF_CORE_READ(sock, __sk_common.skc_daddr));
  } else if (family == AF_INET6) {
    BPF_CORE_READ_INTO((struct in6_addr *)attempt->source, sock, __sk_common.skc_v6_rcv_saddr);
    BPF_CORE_READ_INTO((struct in6_addr *)attempt->dialed, sock, __sk_common.skc_v6_daddr);
  } else return 0;
  attempt->source_port = BPF_CORE_READ(sock, __sk_common.skc_num);
  attempt->dialed_port = bpf_ntohs(BPF_CORE_READ(sock, __sk_common.skc_dport));
  return BPF_CORE_READ(sock, __sk_common.skc_net.net, ns.inum);
}

static __always_inline struct worker *worker_of(u32 thread, u64 start, u64 owner, u64 upstream_offset, const u8 *source) {
  struct worker *worker = bpf_map_lookup_elem(&workers, &thread);
  if (worker && worker->start == start) return worker;
  u32 zero = 0;
  struct worker *none = bpf_map_lookup_elem(&no_worker, &zero);
  if (!none) return 0;
  bpf_map_update_elem(&workers, &thread, none, BPF_ANY);
  worker = bpf_map_lookup_elem(&workers, &thread);
  if (!worker) return 0;
  worker->start = start;
  worker->owner = owner;
  worker->upstream_offset = upstream_offset;
  __builtin_memcpy(worker->source, source, 16);
  return worker;
}

static __always_inline bool in_frame(struct worker *worker, u64 stack) {
  return worker->request && stack <= worker->frame && word(worker->frame) == worker->returns_to;
}

/* The reader reads when it needs to know; it is woken only before the ring is full. */
static __always_inline u64 wake(void) {
  u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
  return waiting > bpf_ringbuf_query(&records, BPF_RB_RING_SIZE) / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Reads bytes of nginx's memory into a record that has room for `room`. The verifier has to see this comparison, not an earlier one. */
static __always_inline bool read_bytes(void *to, u64 bytes, u64 room, u64 from) {
  asm volatile("" : "+r"(bytes));
  return bytes <= room && !bpf_probe_read_user(to, bytes, (void *)from);
}

/* What is the same of each kind. */
static __always_inline void describe(struct line *line, u32 kind, u32 thread, const struct worker *worker, u64 buffer, u64 length) {
  __builtin_memset(line, 0, sizeof *line);
  line->kind = kind;
  line->length = length;
  line->at = bpf_ktime_get_ns();
  line->owner = worker->owner;
  line->start = worker->start;
  line->thread = thread;
  line->buffer = buffer;
  line->flushes = worker->flushes;
  __builtin_memcpy(line->source, worker->source, sizeof line->source);
}

static __always_inline void describe_file(struct line *line, struct inode *inode) {
  line->inode = BPF_CORE_READ(inode, i_ino);
  line->offset = BPF_CORE_READ(inode, i_size);
}

/* The request that is freed, and its attempts, in a record with room for so many of them. */
static __always_inline void describe_request(struct line *line, const struct worker *worker, u32 room) {
  line->states = worker->states;
  line->attempts = worker->freed.attempts;
  line->unclear = worker->freed.unclear;
  line->room = room;
  __builtin_memcpy(line->attempt, worker->freed.attempt, room * sizeof(struct attempt));
}
