import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LAB_PATH } from './requirements.ts';
import { removeSocketLb, socketLbRuns } from './socket-lb.ts';

/**
 * Names of the lab's namespaces and temporary directories: `rplab-PID-START-RANDOM`, where START is the process's
 * start time (field 22 of /proc/PID/stat, ticks since boot), so that a reused pid is not taken for the old run.
 */
const OWNED = /^rplab-(\d+)-(\d+)-[0-9a-f]+/;

function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command's name is in parentheses and may hold spaces.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

export function runPrefix(): string {
  return `rplab-${process.pid}-${startTime(process.pid)}-${randomBytes(3).toString('hex')}`;
}

function listNamespaces(): string[] {
  try {
    return readdirSync('/run/netns');
  } catch {
    return [];
  }
}

/** Ends what still runs in the run's namespaces, then removes them and its temporary directory. Never throws. */
export function removeRun(prefix: string): void {
  const names = listNamespaces().filter((name) => name.startsWith(`${prefix}-`));
  const env = { ...process.env, PATH: LAB_PATH };
  for (const name of names) {
    const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8', env }).stdout ?? '';
    for (const pid of pids.split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended by itself meanwhile.
      }
    }
  }
  for (const name of names) spawnSync('ip', ['netns', 'del', name], { env });
  removeSocketLb(prefix);
  try {
    rmSync(join(tmpdir(), prefix), { recursive: true, force: true, maxRetries: 3 });
  } catch {
    // Somebody still writes there: the next sweep removes it.
  }
}

/** Removes what runs that are dead left behind. Runs that live are left alone. */
export function sweepDeadRuns(): void {
  const dead = new Set<string>();
  for (const name of [...listNamespaces(), ...readdirSync(tmpdir()), ...socketLbRuns()]) {
    const match = OWNED.exec(name);
    if (match && startTime(Number(match[1])) !== match[2]) dead.add(match[0]);
  }
  for (const prefix of dead) removeRun(prefix);
}
