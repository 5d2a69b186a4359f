// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which upstream connections the request behind an access line used, by nginx's own structures. Uprobes:
 *
 *   ngx_chain_writer(ctx)     nginx writes to an upstream: ctx->connection->data is the request, and the number of
 *                             r->upstream_states tells which entry of $upstream_addr this is
 *   ngx_http_free_request(r)  r's lines are about to be written
 *   write(fd, buf, len)       a line of r, if this is inside that call and the buffer lies in r's pool
 *   ngx_destroy_pool(r->pool) where ngx_http_free_request calls it: r's lines have been written. Only where logs are buffered
 *
 * Only nginx's memory is read, and of the kernel's the socket and the file. Nothing is changed. What does not look as
 * expected is left out: a missing attempt costs a name.
 */
#include "nginx.bpf.h"
#include "buffers.bpf.h"

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
    struct request *none = bpf_map_lookup_elem(&no_request, &zero);
    if (!none) return 0;
    bpf_map_update_elem(&requests, &client, none, BPF_ANY);
    known = bpf_map_lookup_elem(&requests, &client);
    if (!known) return 0;
    known->owner = owner;
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
  freed->attempts = freed->unclear = worker->buffers = 0;
  /* Its subrequests' attempts are with it, and go with it. */
  struct client client = { worker->start, request.connection };
  struct request *known = bpf_map_lookup_elem(&requests, &client);
  if (!known) return 0;
  note_buffers(worker, address, PT_REGS_IP(ctx) + DISTANCE(worker->owner));
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

/* Most lines have one attempt and few bytes: records of two sizes. */
#define SHORT_BYTES 344
#define SEND_LINE(attempts, room)                                                                          \
  do {                                                                                                     \
    struct line *line =                                                                                    \
        bpf_ringbuf_reserve(&records, sizeof *line + (attempts) * sizeof(struct attempt) + (room), 0);     \
    if (!line) break;                                                                                      \
    describe(line, LINE, thread, worker, buffer, length);                                                  \
    describe_file(line, inode);                                                                            \
    describe_request(line, worker, attempts);                                                              \
    if (!read_bytes(&line->attempt[attempts], bytes, room, buffer)) {                                      \
      bpf_ringbuf_discard(line, 0);                                                                        \
      break;                                                                                               \
    }                                                                                                      \
    bpf_ringbuf_submit(line, wake());                                                                      \
    return;                                                                                                \
  } while (0)

static __always_inline void send_line(u32 thread, struct worker *worker, struct inode *inode, u64 buffer, u64 length) {
  u32 bytes = length < MAX_CHECKED ? length : MAX_CHECKED;
  count(LINES);
  if (worker->freed.attempts <= 1 && bytes <= SHORT_BYTES) SEND_LINE(1, SHORT_BYTES);
  else SEND_LINE(MAX_ATTEMPTS, MAX_CHECKED);
  count(LOST);
}

SEC("uprobe")
int on_write(struct pt_regs *ctx) {
  u64 id = bpf_get_current_pid_tgid(), stack = PT_REGS_SP(ctx);
  u32 thread = id;
  struct worker *worker = bpf_map_lookup_elem(&workers, &thread);
  if (!worker || worker->owner != bpf_get_attach_cookie(ctx) || worker->start != started()) return 0;
  u64 buffer = PT_REGS_PARM2(ctx), length = PT_REGS_PARM3(ctx);
  /* Inside ngx_http_free_request: its frame is still there. */
  bool own = in_frame(worker, stack) && in_pool(worker, buffer);
  /* A line without upstreams; or of the error log, which is made on the stack. */
  if (own ? !worker->states : buffer - stack < STACK_BYTES) return 0;
  struct file *file = file_of(PT_REGS_PARM1(ctx));
  if (!file) return 0;
  struct inode *inode = BPF_CORE_READ(file, f_inode);
  if ((BPF_CORE_READ(inode, i_mode) & FILE_TYPE) != REGULAR_FILE) return 0;
  if (!(BPF_CORE_READ(file, f_flags) & APPENDS)) return 0;
  if (own) send_line(thread, worker, inode, buffer, length);
  else send_flush(thread, worker, inode, buffer, length);
  return 0;
}
