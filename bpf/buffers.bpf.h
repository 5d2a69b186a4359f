/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Logs that nginx buffers (`access_log … buffer=`): which line in a buffer is which request's. A worker does one thing at a time,
 * so what has come into a log's buffer between the beginning of ngx_http_free_request(r) and its call of ngx_destroy_pool is r's.
 * What comes in otherwise, such as lines of subrequests, is no one's. Where the buffer is written to the file, all of it is told.
 */

/* Above the stack pointer, where the error log makes its lines. */
#define STACK_BYTES 65536

/* The buffers of the request's logs, at its end. `module`: where `ngx_http_log_module` is. */
static __always_inline void note_buffers(struct worker *worker, u64 request, u64 module) {
  u32 which = BUFFERS;
  u64 *wanted = bpf_map_lookup_elem(&counters, &which);
  if (!wanted || !*wanted || !DISTANCE(worker->owner)) return;
  /* r->loc_conf[ngx_http_log_module.ctx_index]->logs: an array of ngx_http_log_t, whose first member is the file. */
  u64 index = word(module);
  if (index > 1024) return;
  struct { u64 elements, count, size; } logs;
  if (bpf_probe_read_user(&logs, sizeof logs, (void *)word(word(word(request + 40) + 8 * index))) || logs.size > 256) return;
  for (u32 i = 0; i < MAX_BUFFERS; i++) {
    if (i >= logs.count) break;
    /* ngx_open_file_t's data. */
    u64 at = word(word(logs.elements + i * logs.size) + 32);
    struct { u64 start, position, last, event, flush, gzip; } buffer;
    if (!at || bpf_probe_read_user(&buffer, sizeof buffer, (void *)at) || buffer.gzip) continue;
    u64 used = buffer.position - buffer.start;
    if (used > MAX_FLUSH || buffer.last - buffer.start < used) continue;
    bool known = false;
    for (u32 k = 0; k < MAX_BUFFERS; k++)
      if (k < worker->buffers && worker->buffer[k].at == at) known = true;
    u32 next = worker->buffers;
    if (known || next >= MAX_BUFFERS) continue;
    worker->buffer[next] = (struct buffer){ at, buffer.start, used, 0 };
    worker->buffers = next + 1;
  }
}

#define SEND_HELD(attempts)                                                                                   \
  do {                                                                                                        \
    struct line *line = bpf_ringbuf_reserve(&records, sizeof *line + (attempts) * sizeof(struct attempt), 0); \
    if (!line) break;                                                                                         \
    describe(line, HELD, thread, worker, start, length);                                                      \
    line->offset = place;                                                                                     \
    describe_request(line, worker, attempts);                                                                 \
    bpf_ringbuf_submit(line, wake());                                                                         \
    return;                                                                                                   \
  } while (0)

static __always_inline void send_held(u32 thread, struct worker *worker, u64 start, u64 place, u64 length) {
  count(LINES);
  if (worker->freed.attempts <= 1) SEND_HELD(1);
  else SEND_HELD(MAX_ATTEMPTS);
  count(LOST);
}

/* At the call of ngx_destroy_pool: what the request has added to the buffers is held there. */
SEC("uprobe")
int on_logged(struct pt_regs *ctx) {
  u64 id = bpf_get_current_pid_tgid();
  u32 thread = id;
  struct worker *worker = bpf_map_lookup_elem(&workers, &thread);
  if (!worker || worker->owner != bpf_get_attach_cookie(ctx) || worker->start != started()) return 0;
  if (!worker->buffers || !in_frame(worker, PT_REGS_SP(ctx)) || PT_REGS_PARM1(ctx) != worker->pool) return 0;
  for (u32 i = 0; i < MAX_BUFFERS; i++) {
    if (i >= worker->buffers) break;
    struct buffer *before = &worker->buffer[i];
    struct { u64 start, position; } now;
    if (bpf_probe_read_user(&now, sizeof now, (void *)before->at) || now.start != before->start) continue;
    u64 length = now.position - now.start - before->used;
    if (length && length <= MAX_FLUSH) send_held(thread, worker, now.start, before->used, length);
  }
  worker->request = 0;
  return 0;
}

/* All that is about to be written, in one record that is made for at least as much. */
#define SEND_FLUSH(room)                                                           \
  do {                                                                             \
    struct line *line = bpf_ringbuf_reserve(&records, sizeof *line + (room), 0);   \
    if (!line) break;                                                              \
    describe(line, FLUSH, thread, worker, buffer, bytes);                          \
    describe_file(line, inode);                                                    \
    if (!read_bytes(line->attempt, bytes, room, buffer)) {                         \
      bpf_ringbuf_discard(line, 0);                                                \
      break;                                                                       \
    }                                                                              \
    bpf_ringbuf_submit(line, wake());                                              \
    return;                                                                        \
  } while (0)

static __always_inline void send_flush(u32 thread, struct worker *worker, struct inode *inode, u64 buffer, u64 length) {
  u32 bytes = length;
  worker->flushes++;
  /* The request's own line is the first one of the buffer then. */
  for (u32 i = 0; i < MAX_BUFFERS; i++)
    if (i < worker->buffers && worker->buffer[i].start == buffer) worker->buffer[i].used = 0;
  if (length <= 4096) SEND_FLUSH(4096);
  else if (length <= 16384) SEND_FLUSH(16384);
  else if (length <= 65536) SEND_FLUSH(65536);
  else if (length <= MAX_FLUSH) SEND_FLUSH(MAX_FLUSH);
  count(LOST);
}
