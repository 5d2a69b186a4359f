// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which upstream connections the request behind an access line used, by nginx's own structures. Three uprobes:
 *
 *   ngx_chain_writer(ctx)     nginx writes to an upstream: ctx->connection->data is the request, and the number of
 *                             r->upstream_states tells which entry of $upstream_addr this is
 *   ngx_http_free_request(r)  r's lines are about to be written
 *   write(fd, buf, len)       a line of r, if this is inside that call and the buffer lies in r's pool
 *
 * Only nginx's memory is read, and of the kernel's the socket and the file. Nothing is changed. What does not look as
 * expected is left out: a missing attempt costs a name.
 */
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

/* Requests in progress by client connection: a connection's pointer is unique within a process, and its start among all. */
struct client { u64 start, connection; };
struct request { u64 owner; u32 attempts, unclear; struct attempt attempt[MAX_ATTEMPTS]; };
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
  u32 states, unused;
  struct request freed;
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, RING_BYTES); } records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, COUNTERS); __type(key, u32); __type(value, u64); } counters SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, struct place); __type(value, u8); } places SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 32768); __type(key, struct client); __type(value, struct request); } requests SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, struct worker); } workers SEC(".maps");
/* Too large for the stack. */
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct line); } line_buffer SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct worker); } no_worker SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct request); } no_request SEC(".maps");

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
  struct worker *fresh = bpf_map_lookup_elem(&no_worker, &zero);
  if (!fresh) return 0;
  __builtin_memset(fresh, 0, sizeof *fresh);
  fresh->start = start;
  fresh->owner = owner;
  fresh->upstream_offset = upstream_offset;
  __builtin_memcpy(fresh->source, source, 16);
  bpf_map_update_elem(&workers, &thread, fresh, BPF_ANY);
  return bpf_map_lookup_elem(&workers, &thread);
}

SEC("uprobe")
int on_chain(struct pt_regs *ctx) {
  u64 writer = PT_REGS_PARM1(ctx), id = bpf_get_current_pid_tgid(), owner = bpf_get_attach_cookie(ctx);
  struct { u64 out, last, connection; } chain;
  struct { u64 data, read, write; u32 fd, unused; } connection;
  struct { u32 signature, unused; u64 connection; } request;
  u64 upstreams[2];
  u32 thread = id, offset;
  if (bpf_probe_read_user(&chain, sizeof chain, (void *)writer) ||
      bpf_probe_read_user(&connection, sizeof connection, (void *)chain.connection) ||
      bpf_probe_read_user(&request, sizeof request, (void *)connection.data) ||
      request.signature != SIGNATURE || request.connection == chain.connection ||
      bpf_probe_read_user(upstreams, sizeof upstreams, (void *)(connection.data + 64))) {
    count(NOT_A_REQUEST);
    return 0;
  }
  /* r->upstream holds this very writer, and its peer is this connection. With a cache it is one word further. */
  if (writer - upstreams[1] < UPSTREAM_BYTES && word(upstreams[1] + 16) == chain.connection) offset = 72;
  else if (writer - upstreams[0] < UPSTREAM_BYTES && word(upstreams[0] + 16) == chain.connection) offset = 64;
  else {
    count(NOT_FOUND);
    return 0;
  }
  u64 states = word(word(connection.data + offset + 8) + 8);
  struct attempt attempt = { .request = connection.data, .index = states - 1 };
  if (!states || states > 60000) {
    count(NOT_FOUND);
    return 0;
  }
  struct place place = { .namespace = read_socket(connection.fd, &attempt) };
  __builtin_memcpy(place.address, attempt.source, sizeof place.address);
  if (!place.namespace || !bpf_map_lookup_elem(&places, &place)) return 0;

  u64 start = started();
  struct worker *worker = worker_of(thread, start, owner, offset, attempt.source);
  if (!worker || worker->owner != owner) return 0;
  /* This is not inside a free. */
  worker->request = 0;
  struct client client = { start, request.connection };
  struct request *known = bpf_map_lookup_elem(&requests, &client);
  if (!known || known->owner != owner) {
    u32 zero = 0;
    struct request *fresh = bpf_map_lookup_elem(&no_request, &zero);
    if (!fresh) return 0;
    __builtin_memset(fresh, 0, sizeof *fresh);
    fresh->owner = owner;
    bpf_map_update_elem(&requests, &client, fresh, BPF_ANY);
    known = bpf_map_lookup_elem(&requests, &client);
    if (!known) return 0;
  }
  for (u32 i = 0; i < MAX_ATTEMPTS; i++) {
    if (i >= known->attempts) break;
    struct attempt *earlier = &known->attempt[i];
    if (earlier->request != attempt.request || earlier->index != attempt.index) continue;
    if (earlier->source_port == attempt.source_port && earlier->dialed_port == attempt.dialed_port) return 0;
    /* Another connection for the same attempt: the end of an earlier request was not seen. */
    known->unclear = 1;
    count(CONTRADICTED);
    return 0;
  }
  u32 next = known->attempts;
  if (next >= MAX_ATTEMPTS) {
    known->unclear = 1;
    return 0;
  }
  attempt.at = bpf_ktime_get_ns();
  known->attempt[next] = attempt;
  known->attempts = next + 1;
  return 0;
}

SEC("uprobe")
int on_free(struct pt_regs *ctx) {
  u64 id = bpf_get_current_pid_tgid(), address = PT_REGS_PARM1(ctx);
  u32 thread = id;
  struct worker *worker = bpf_map_lookup_elem(&workers, &thread);
  if (!worker || worker->owner != bpf_get_attach_cookie(ctx)) return 0;
  worker->request = 0;
  struct { u32 signature, unused; u64 connection; } request;
  if (worker->start != started() || bpf_probe_read_user(&request, sizeof request, (void *)address) ||
      request.signature != SIGNATURE) {
    count(NOT_A_REQUEST);
    return 0;
  }
  u64 states = word(address + worker->upstream_offset + 8);
  worker->states = states ? word(states + 8) : 0;
  worker->pool = word(address + worker->upstream_offset + 16);
  worker->frame = PT_REGS_SP(ctx);
  worker->returns_to = word(worker->frame);
  worker->request = address;
  struct request *freed = &worker->freed;
  freed->attempts = freed->unclear = 0;
  /* Its subrequests' attempts are with it, and go with it. */
  struct client client = { worker->start, request.connection };
  struct request *known = bpf_map_lookup_elem(&requests, &client);
  if (!known) return 0;
  freed->unclear = known->unclear;
  for (u32 i = 0; i < MAX_ATTEMPTS; i++) {
    if (i >= known->attempts) break;
    u32 next = freed->attempts;
    if (known->attempt[i].request != address || next >= MAX_ATTEMPTS) continue;
    freed->attempt[next] = known->attempt[i];
    freed->attempts = next + 1;
  }
  bpf_map_delete_elem(&requests, &client);
  return 0;
}

/* Whether the buffer lies in the request's pool, which is destroyed after its lines are written (ngx_pool_t). */
static __always_inline bool in_pool(struct worker *worker, u64 buffer) {
  if (!worker->pool || word(worker->request + worker->upstream_offset + 16) != worker->pool) return false;
  struct { u64 last, end, next, failed; } block;
  u64 at = worker->pool;
  for (int i = 0; i < MAX_BLOCKS && at; i++) {
    if (bpf_probe_read_user(&block, sizeof block, (void *)at)) return false;
    if (buffer >= at && buffer < block.end) return true;
    at = block.next;
  }
  u64 large = word(worker->pool + 56);
  for (int i = 0; i < MAX_BLOCKS && large; i++) {
    if (word(large + 8) == buffer) return true;
    large = word(large);
  }
  return false;
}

SEC("uprobe")
int on_write(struct pt_regs *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 thread = id, zero = 0;
  struct worker *worker = bpf_map_lookup_elem(&workers, &thread);
  if (!worker || !worker->request || !worker->states || worker->owner != bpf_get_attach_cookie(ctx)) return 0;
  u64 buffer = PT_REGS_PARM2(ctx), length = PT_REGS_PARM3(ctx);
  /* Inside ngx_http_free_request: its frame is still there. */
  if (PT_REGS_SP(ctx) >= worker->frame || word(worker->frame) != worker->returns_to) return 0;
  if (!in_pool(worker, buffer)) return 0;
  struct file *file = file_of(PT_REGS_PARM1(ctx));
  if (!file) return 0;
  struct inode *inode = BPF_CORE_READ(file, f_inode);
  if ((BPF_CORE_READ(inode, i_mode) & FILE_TYPE) != REGULAR_FILE) return 0;
  if (!(BPF_CORE_READ(file, f_flags) & APPENDS)) return 0;
  struct line *line = bpf_map_lookup_elem(&line_buffer, &zero);
  if (!line) return 0;
  line->at = bpf_ktime_get_ns();
  line->inode = BPF_CORE_READ(inode, i_ino);
  line->offset = BPF_CORE_READ(inode, i_size);
  line->length = length;
  line->states = worker->states;
  line->attempts = worker->freed.attempts;
  line->unclear = worker->freed.unclear;
  __builtin_memcpy(line->source, worker->source, 16);
  __builtin_memcpy(line->attempt, worker->freed.attempt, sizeof line->attempt);
  u32 bytes = length < MAX_CHECKED ? length : MAX_CHECKED;
  if (bytes > MAX_CHECKED || bpf_probe_read_user(line->bytes, bytes, (void *)buffer)) {
    count(LOST);
    return 0;
  }
  count(LINES);
  /* The reader reads when it needs to know; it is woken only before the ring is full. */
  u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
  u64 wake = waiting > bpf_ringbuf_query(&records, BPF_RB_RING_SIZE) / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
  u32 size = __builtin_offsetof(struct line, bytes) + bytes;
  if (size > sizeof *line || bpf_ringbuf_output(&records, line, size, wake)) count(LOST);
  return 0;
}
