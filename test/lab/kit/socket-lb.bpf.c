/* Chooses a pod in connect(), as Cilium's socket load balancing does; getpeername() still tells what was dialed. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MOST 8

/* Addresses and ports in network byte order; IPv4 in the first word. */
struct address {
  __u32 ip[4];
  __u32 port;
};

struct service {
  __u32 count;
  struct address to[MOST];
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 256);
  __type(key, struct address);
  __type(value, struct service);
} services SEC(".maps");

/* What each socket dialed, by its cookie. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, __u64);
  __type(value, struct address);
} dialed SEC(".maps");

enum { REFUSE, PROCEED };

/* The pod for the Service at `key`; null where it is none, or has no pod (`refused`). */
static __always_inline struct address *choose(struct bpf_sock_addr *ctx, struct address *key, int *refused) {
  struct service *service = bpf_map_lookup_elem(&services, key);
  if (!service) return 0;
  __u32 count = service->count;
  if (count == 0) {
    *refused = 1;
    return 0;
  }
  __u32 one = bpf_get_prandom_u32() % count;
  if (one >= MOST) return 0;
  __u64 cookie = bpf_get_socket_cookie(ctx);
  bpf_map_update_elem(&dialed, &cookie, key, BPF_ANY);
  return &service->to[one];
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx) {
  struct address key = {.ip = {ctx->user_ip4}, .port = ctx->user_port};
  int refused = 0;
  struct address *to = choose(ctx, &key, &refused);
  if (!to) return refused ? REFUSE : PROCEED;
  ctx->user_ip4 = to->ip[0];
  ctx->user_port = to->port;
  return PROCEED;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx) {
  struct address key = {
      .ip = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]},
      .port = ctx->user_port,
  };
  int refused = 0;
  struct address *to = choose(ctx, &key, &refused);
  if (!to) return refused ? REFUSE : PROCEED;
  ctx->user_ip6[0] = to->ip[0];
  ctx->user_ip6[1] = to->ip[1];
  ctx->user_ip6[2] = to->ip[2];
  ctx->user_ip6[3] = to->ip[3];
  ctx->user_port = to->port;
  return PROCEED;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  struct address *was = bpf_map_lookup_elem(&dialed, &cookie);
  if (!was) return PROCEED;
  ctx->user_ip4 = was->ip[0];
  ctx->user_port = was->port;
  return PROCEED;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  struct address *was = bpf_map_lookup_elem(&dialed, &cookie);
  if (!was) return PROCEED;
  ctx->user_ip6[0] = was->ip[0];
  ctx->user_ip6[1] = was->ip[1];
  ctx->user_ip6[2] = was->ip[2];
  ctx->user_ip6[3] = was->ip[3];
  ctx->user_port = was->port;
  return PROCEED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
