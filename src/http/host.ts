import { isIP } from 'node:net';

/** Only a cluster's own DNS answers for these: nobody can register a domain below `svc` or `local`. */
const CLUSTER_NAME = /^[a-z0-9_.-]+\.svc(?:\.cluster\.local)?$/;

/**
 * Whether a server of ours may be asked by the name in a `Host` header: an IP address, `localhost`, a Service's name
 * (`*.svc`, `*.svc.cluster.local`), or one of `allowed` (lower case, without a port); any port. Any other name can be
 * that of a web page whose owner points it at this address: the browser then gives our answers to the page (DNS rebinding).
 * A single label is no better: the browser's network chooses what it resolves to.
 */
export function isOwnHost(host: string, allowed: readonly string[]): boolean {
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(host) ?? [];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  if (plain === undefined) return false;
  const name = plain.toLowerCase().replace(/\.$/, '');
  return isIP(name) === 4 || name === 'localhost' || CLUSTER_NAME.test(name) || allowed.includes(name);
}
