import { isIP } from 'node:net';

/** Only a cluster's own DNS answers for these: nobody can register a domain below `svc` or `local`. */
const CLUSTER_NAME = /^[a-z0-9_.-]+\.svc(?:\.cluster\.local)?$/;

/**
 * Whether a server of ours may be asked by the name in a `Host` header: an IP address, `localhost`, a Service's name
 * (`*.svc`, `*.svc.cluster.local`), or one of `allowed` (lower case, without a port); any port. By another name comes a web
 * page whose owner points that name at this address, so that the reader's browser takes our answers for the page's own (DNS
 * rebinding). A single label is no better: the network that the browser is in chooses what it resolves to.
 */
export function isOwnHost(host: string, allowed: readonly string[]): boolean {
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(host) ?? [];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  if (plain === undefined) return false;
  const name = plain.toLowerCase().replace(/\.$/, '');
  return isIP(name) === 4 || name === 'localhost' || CLUSTER_NAME.test(name) || allowed.includes(name);
}
