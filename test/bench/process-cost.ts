import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds that the living threads of these processes have used (user and system), from the scheduler's own clock. */
export function cpuSeconds(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      try {
        ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ')[0]);
      } catch {
        // The thread ended in between.
      }
    }
  }
  return ns / 1e9;
}

/** The process and all below it. */
export function family(pid: number): number[] {
  const all = [pid];
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').trim();
    if (children !== '') for (const child of children.split(' ')) all.push(...family(Number(child)));
  }
  return all;
}

/** How often the main thread slept and was woken since it started. */
export function wakeUps(pid: number): number {
  const status = readFileSync(`/proc/${pid}/task/${pid}/status`, 'latin1');
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)![1]);
}

/** Resident memory in MB: at the moment, the most it was, and what of it is anonymous at the moment. */
export function memory(pid: number): { now: number; peak: number; anonymous: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const read = (name: string): number =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024;
  return { now: read('VmRSS'), peak: read('VmHWM'), anonymous: read('RssAnon') };
}
