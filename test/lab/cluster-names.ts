/**
 * Answers as a Kubernetes API server does for the names of the lab's pods. Run on the node:
 * `cluster-names.ts KUBECONFIG NAMED` with NAMED a JSON list of NamedService. Writes the kubeconfig for the helper, says
 * `ready`, and goes on until it is ended.
 */
import { writeFileSync } from 'node:fs';
import { ApiServerStandIn, service, slice } from '../unit/api-server.ts';

export interface NamedService {
  namespace: string;
  name: string;
  clusterIp: string;
  pods: readonly { ip: string; pod: string; node: string }[];
}

const [, , kubeconfig, named] = process.argv;
if (kubeconfig === undefined || named === undefined) {
  console.error('usage: cluster-names.ts KUBECONFIG NAMED');
  process.exit(2);
}
const server = new ApiServerStandIn();
for (const { namespace, name, clusterIp, pods } of JSON.parse(named) as NamedService[]) {
  server.put(service(namespace, name, [clusterIp]));
  server.put(slice(namespace, name, 'lab', [...pods]));
}
await server.listen();
writeFileSync(kubeconfig, server.kubeconfig());
process.stdout.write('ready\n');
