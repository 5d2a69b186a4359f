/** `250ms`, `2s`, `1.5m`, `1h` → ms; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  if (!match) return undefined;
  const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] as 'ms' | 's' | 'm' | 'h'];
  return Number(match[1]) * unit;
}

/** `1024`, `64Ki`, `16Mi`, `1Gi` → bytes; undefined if it is none. */
export function parseBytes(text: string): number | undefined {
  const match = /^([1-9]\d{0,11})(Ki|Mi|Gi)?$/.exec(text);
  if (!match) return undefined;
  const unit = { Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3 }[match[2] as 'Ki' | 'Mi' | 'Gi'] ?? 1;
  return Number(match[1]) * unit;
}

/** `:9798` (all addresses, IPv6 and IPv4), `127.0.0.1:9798`, `[::1]:9798`; undefined if it is none of these. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const colon = text.lastIndexOf(':');
  const port = text.slice(colon + 1);
  if (colon < 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) return undefined;
  let host = text.slice(0, colon);
  if (host.startsWith('[') && host.endsWith(']')) host = host.slice(1, -1);
  else if (host.includes(':')) return undefined;
  return { host: host === '' ? '::' : host, port: Number(port) };
}
