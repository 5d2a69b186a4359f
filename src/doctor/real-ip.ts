/** Whether nginx's realip modules change `$remote_addr` and `$remote_port`. Pure. */
import type { Directive } from './parse-conf.ts';
import type { Model } from './scope.ts';

const REAL_IP: ReadonlySet<string> = new Set(['set_real_ip_from', 'real_ip_header', 'real_ip_recursive']);

/** Whether the configuration was read whole, and leaves both as the connection has them. */
export function leavesClient({ unread, http, stream }: Model): boolean {
  const scopes = [http, stream].filter((scope) => scope !== undefined);
  if (unread.length > 0 || scopes.length === 0) return false;
  return scopes.every(({ entries }) => entries.every(({ directive }) => leaves(directive)));
}

function leaves({ name, children, included }: Directive): boolean {
  if (REAL_IP.has(name)) return false;
  return (children ?? []).every(leaves) && (included ?? []).every(leaves);
}
