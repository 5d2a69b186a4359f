/*
 * Takes packets from one pod's device to another's past the node's network stack, as Cilium's BPF host routing does; and,
 * where there are Services, puts a pod's address in the place of the Service's, packet by packet, and back.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stddef.h>

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

/* A connection of IPv4 as its client sees it, or as the pod does. */
struct tuple {
  __u32 from;
  __u32 to;
  __u16 from_port;
  __u16 to_port;
};

/* The device of each pod, by address. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 256);
  __type(key, struct address);
  __type(value, __u32);
} devices SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 256);
  __type(key, struct address);
  __type(value, struct service);
} services SEC(".maps");

/* What was chosen for a connection to a Service, and what it dialed for one that a pod answers. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct tuple);
  __type(value, struct address);
} chosen SEC(".maps"), dialed SEC(".maps");

static __always_inline int redirect(struct address *to) {
  __u32 *device = bpf_map_lookup_elem(&devices, to);
  return device ? bpf_redirect_peer(*device, 0) : TC_ACT_OK;
}

/* `ip_at`, `port_at`: offsets of what is replaced. */
static __always_inline void replace(struct __sk_buff *skb, int ip_at, int port_at, __u32 old_ip, __u16 old_port,
                                    struct address *new) {
  int tcp = ETH_HLEN + sizeof(struct iphdr);
  __u32 ip = new->ip[0];
  __u16 port = new->port;
  bpf_l4_csum_replace(skb, tcp + offsetof(struct tcphdr, check), old_ip, ip, BPF_F_PSEUDO_HDR | 4);
  bpf_l4_csum_replace(skb, tcp + offsetof(struct tcphdr, check), old_port, port, 2);
  bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old_ip, ip, 4);
  bpf_skb_store_bytes(skb, ETH_HLEN + ip_at, &ip, 4, 0);
  bpf_skb_store_bytes(skb, tcp + port_at, &port, 2, 0);
}

static __always_inline int route4(struct __sk_buff *skb) {
  struct iphdr ip;
  struct tcphdr tcp;
  if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0) return TC_ACT_OK;
  struct address to = {.ip = {ip.daddr}};
  if (ip.protocol != IPPROTO_TCP || ip.ihl != 5 ||
      bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &tcp, sizeof(tcp)) < 0)
    return redirect(&to);
  struct address key = {.ip = {ip.daddr}, .port = tcp.dest};
  struct tuple tuple = {.from = ip.saddr, .to = ip.daddr, .from_port = tcp.source, .to_port = tcp.dest};
  struct service *service = bpf_map_lookup_elem(&services, &key);
  if (service) {
    struct address *pod = bpf_map_lookup_elem(&chosen, &tuple);
    if (!pod || (tcp.syn && !tcp.ack)) {
      __u32 count = service->count;
      if (count == 0) return TC_ACT_SHOT;
      __u32 one = bpf_get_prandom_u32() % count;
      if (one >= MOST) return TC_ACT_SHOT;
      struct address next = service->to[one];
      bpf_map_update_elem(&chosen, &tuple, &next, BPF_ANY);
      pod = bpf_map_lookup_elem(&chosen, &tuple);
      if (!pod) return TC_ACT_SHOT;
    }
    struct address copy = *pod;
    struct tuple answer = {.from = copy.ip[0], .to = ip.saddr, .from_port = copy.port, .to_port = tcp.source};
    bpf_map_update_elem(&dialed, &answer, &key, BPF_ANY);
    replace(skb, offsetof(struct iphdr, daddr), offsetof(struct tcphdr, dest), ip.daddr, tcp.dest, &copy);
    to.ip[0] = copy.ip[0];
  } else {
    struct address *was = bpf_map_lookup_elem(&dialed, &tuple);
    if (was) {
      struct address copy = *was;
      replace(skb, offsetof(struct iphdr, saddr), offsetof(struct tcphdr, source), ip.saddr, tcp.source, &copy);
    }
  }
  return redirect(&to);
}

SEC("tc")
int from_pod(struct __sk_buff *skb) {
  if (skb->protocol == bpf_htons(ETH_P_IP)) return route4(skb);
  if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
    struct address to = {};
    if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, daddr), to.ip, 16) < 0) return TC_ACT_OK;
    return redirect(&to);
  }
  return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
