#!/bin/sh
# A flow table on the node, as kube-proxy's nftables fast path has one (KEP-4963): flow-table.sh CONFIGURATIONS NODE CLI OUT.
# This machine's own network is the node's. nginx sends to one Service of two pods: kept connections of many packets go past
# the tap, fresh ones do not. Leaves in OUT the feed, both access logs, and how many connections the flow table had. Everything
# but the helper is quick to start, as programs take many seconds to start in an emulator.
set -u
conf=$1 node=$2 cli=$3 out=$4
note() { echo "$(cut -d. -f1 /proc/uptime) s: $*"; }

sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
  net.netfilter.nf_conntrack_acct=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
ip link add cni0 type bridge
ip addr add 10.244.0.1/32 dev cni0
ip link set cni0 up
# Packets to a ClusterIP need a route before they are translated.
ip route add default dev cni0
pod() {
  ip netns add "$1"
  ip link add "v$1" type veth peer name eth0 netns "$1"
  ip link set "v$1" master cni0 up
  ip route add "$2/32" dev cni0
  ip -n "$1" link set lo up
  ip -n "$1" addr add "$2/32" dev eth0
  ip -n "$1" link set eth0 up
  ip -n "$1" route add default via 10.244.0.1 dev eth0 onlink
}
pod client 10.244.0.9
pod front 10.244.0.70
pod pod0 10.244.1.64
pod pod1 10.244.1.65
nft 'table ip kube-proxy {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 10.105.148.194 tcp dport 10000 dnat to numgen random mod 2 map { 0 : 10.244.1.64, 1 : 10.244.1.65 };
  }
}'
for each in front pod0 pod1; do
  mkdir "/tmp/$each"
  ip netns exec "$each" nginx -p "/tmp/$each" -e "/tmp/$each/error.log" -c "$conf/$each.conf"
done
note 'the network is up'

"$node" "$cli" helper --listen 10.244.0.1:9797 --auth source-ip 2>"$out/helper.txt" &
helper=$!
until ip netns exec front curl -sf -m 5 http://10.244.0.1:9797/healthz >/dev/null; do sleep 1; done
ip netns exec front curl -sN 'http://10.244.0.1:9797/v1/feed?src=10.244.0.70' >"$out/feed.ndjson" &
feed=$!
until [ -s "$out/feed.ndjson" ]; do sleep 1; done
note 'the feed is read'

# Two clients, each with one request after the other: kept upstream connections for one, a connection each for the other.
send() {
  ip netns exec client curl -s -m 120 "http://10.244.0.70:8080/kept/$1-[1-$2]" >/dev/null &
  kept=$!
  ip netns exec client curl -s -m 120 "http://10.244.0.70:8080/fresh/$1-[1-$2]" >/dev/null
  wait $kept
}
send before 60
sleep 1
nft 'table inet fastpath {
  flowtable ft { hook ingress priority 0; devices = { cni0 }; }
  chain forward { type filter hook forward priority 0; ct packets > 20 flow add @ft; }
}'
send within 200
conntrack -L -p tcp 2>/dev/null | grep -c OFFLOAD >"$out/offloaded.txt"
nft delete table inet fastpath
sleep 1
send after 60
sleep 3
note 'all was sent'
cp /tmp/front/full.log /tmp/front/times.log "$out/"
cat /tmp/front/error.log
kill $feed $helper
wait
