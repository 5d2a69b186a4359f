export function rate(perSecond: number): string {
  return perSecond >= 100
    ? perSecond.toFixed(0)
    : perSecond >= 1
      ? perSecond.toFixed(1)
      : perSecond.toFixed(2);
}

export function percent(share: number): string {
  if (share === 0) return '0 %';
  const value = share * 100;
  return value < 0.1 ? '< 0.1 %' : `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

export function milliseconds(ms: number | null | undefined): string {
  return ms === null || ms === undefined ? '–' : ms >= 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${ms}`;
}

export function ago(then: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 2) return 'now';
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

/** The time of day with milliseconds, in the reader's zone. */
export function clockTime(iso: string): string {
  const date = new Date(iso);
  return `${date.toLocaleTimeString([], { hour12: false })}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

export function dateTime(ms: number): string {
  return `${new Date(ms).toLocaleDateString()} ${clockTime(new Date(ms).toISOString())}`;
}

/** A pod's name, or its address if the name is unknown. */
export function podLabel(pod: { pod?: string; ip?: string; port?: number }): string {
  return pod.pod || address(pod.ip ?? '', pod.port ?? 0);
}

export function address(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** The text with which the line filter selects this pod and no other. */
export function filterName(pod: { pod: string; namespace: string; ip: string; port: number }): string {
  return pod.pod ? `${pod.namespace}/${pod.pod}` : address(pod.ip, pod.port);
}
