import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Milliseconds from nginx's `$msec` to the moment the enriched line could be read. */
export interface Delays {
  count: number;
  median: number;
  p99: number;
  max: number;
}

export function summarise(values: readonly number[]): Delays {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
  return { count: sorted.length, median: at(0.5), p99: at(0.99), max: at(1) };
}

/**
 * Watches an enriched log from its present end on, looking every 2 ms, and takes each line's delay. The figure
 * includes the look's own lag and the up to 1 ms that `$msec` cuts off: it is never too good.
 */
export function watchDelays(path: string): { stop(): number[] } {
  const file = openSync(path, 'r');
  const buffer = Buffer.alloc(1 << 20);
  const delays: number[] = [];
  let position = fstatSync(file).size;
  let rest = '';
  const look = (): void => {
    for (;;) {
      const n = readSync(file, buffer, 0, buffer.length, position);
      if (n === 0) return;
      const now = Date.now();
      position += n;
      const lines = (rest + buffer.toString('latin1', 0, n)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const msec = /" (\d{9,}\.\d{3}) /.exec(line);
        if (msec) delays.push(now - Math.round(Number(msec[1]) * 1000));
      }
    }
  };
  const timer = setInterval(look, 2);
  return {
    stop() {
      clearInterval(timer);
      look();
      closeSync(file);
      return delays;
    },
  };
}
