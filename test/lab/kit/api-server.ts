/**
 * The Kubernetes API server's stand-in as a program, to be run in the node's namespace: `api-server.ts KUBECONFIG`.
 * Writes a kubeconfig for the helper, then takes one ApiCommand a line on stdin and answers each with a line of JSON.
 */
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ApiServerStandIn, type Stored, type TokenSubject } from '../../unit/api-server.ts';

export type ApiCommand =
  | { put: Stored }
  | { delete: [kind: string, namespace: string, name: string] }
  | { issue: TokenSubject };

const [, , kubeconfig] = process.argv;
if (kubeconfig === undefined) {
  console.error('usage: api-server.ts KUBECONFIG');
  process.exit(2);
}
const server = new ApiServerStandIn();
await server.listen();
writeFileSync(kubeconfig, server.kubeconfig());
console.log('"ready"');
for await (const line of createInterface(process.stdin)) {
  const command = JSON.parse(line) as ApiCommand;
  let answer = '';
  if ('put' in command) server.put(command.put);
  else if ('delete' in command) server.delete(...command.delete);
  else answer = server.issue(command.issue);
  console.log(JSON.stringify(answer));
}
process.exit(0);
