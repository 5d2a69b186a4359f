/**
 * Records what the kernel says of flow tables, inside the virtual machine: `capture-flow-tables.ts FILE` leaves the netlink
 * messages there, as test/fixtures/flow-tables keeps them.
 */
import { writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { loadLibc } from '../../../src/capture/netlink/libc.ts';
import { NetlinkSocket } from '../../../src/capture/netlink/socket.ts';
import { flowTablesRequest, generationRequest } from '../../../src/capture/tap/flow-tables.ts';
import { sh } from '../kit/shell.ts';

const libc = await loadLibc();
const socket = NetlinkSocket.open(libc, { datagramBytes: 32 * 1024, datagrams: 2 });
const messages: { what: string; hex: string }[] = [];

function ask(what: string, request: Buffer): void {
  if (!socket.send(request)) throw new Error(`${what}: the kernel takes no request`);
  socket.drain(Number.POSITIVE_INFINITY, (bytes, start, end) => {
    messages.push({ what, hex: bytes.toString('hex', start, end) });
  });
}

sh('ip link add d0 type dummy && ip link add d1 type dummy && ip link set d0 up && ip link set d1 up');
ask('generation', generationRequest());
ask('none', flowTablesRequest());
sh('nft add table inet kube-proxy');
sh(`nft 'add flowtable inet kube-proxy idle { hook ingress priority 0; }'`);
ask('one without a device', flowTablesRequest());
sh(`nft 'add flowtable inet kube-proxy fastpath { hook ingress priority 0; devices = { d0, d1 }; }'`);
sh(`nft 'add table ip other; add flowtable ip other ft { hook ingress priority 10; devices = { d0 }; }'`);
ask('one without a device, two with', flowTablesRequest());
ask('generation, later', generationRequest());
socket.close();
writeFileSync(
  process.argv[2]!,
  JSON.stringify(
    { kernel: `Linux ${release()}, x86_64`, source: 'nf_tables, one netlink message each', messages },
    undefined,
    2,
  ),
);
