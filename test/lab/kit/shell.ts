import { spawnSync } from 'node:child_process';
import { LAB_PATH } from './requirements.ts';

/** Runs a shell script to its end and returns its stdout. Throws with the first line of stderr when it fails. */
export function sh(script: string, input?: string): string {
  const run = spawnSync('sh', ['-ec', script], {
    encoding: 'utf8',
    env: { ...process.env, PATH: LAB_PATH },
    maxBuffer: 256 << 20,
    ...(input === undefined ? {} : { input }),
  });
  if (run.error) throw run.error;
  if (run.status !== 0) {
    const said = (run.stderr || `exit ${run.status ?? run.signal}`).trim();
    throw new Error(`lab: ${said} (in: ${script.trim().slice(0, 200)})`);
  }
  return run.stdout;
}
