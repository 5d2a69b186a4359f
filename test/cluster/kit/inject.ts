import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../../dist/cli.js', import.meta.url));

/** What `realpod inject` makes of a manifest. */
export function inject(manifest: string, ...options: string[]): string {
  return execFileSync(process.execPath, [CLI, 'inject', ...options], {
    input: manifest,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}
