import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { nothingMayBeSkipped } from '../required.ts';

const VERSION = 'v3.22.0';
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'realpod', `helm-${VERSION}`);

/**
 * Helm itself: from HELM, PATH, or built once from its Go module into a folder outside the checkout. Undefined where none
 * of them is there; an error where nothing may be skipped.
 */
export function findHelm(): string | undefined {
  for (const path of [process.env.HELM, 'helm', join(CACHE, 'helm')]) {
    if (path && spawnSync(path, ['version', '--short']).status === 0) return path;
  }
  if (spawnSync('go', ['version']).status === 0) {
    mkdirSync(CACHE, { recursive: true });
    spawnSync('go', ['install', `helm.sh/helm/v3/cmd/helm@${VERSION}`], {
      env: { ...process.env, GOBIN: CACHE, CGO_ENABLED: '0' },
      timeout: 600_000,
    });
    if (existsSync(join(CACHE, 'helm'))) return join(CACHE, 'helm');
  }
  if (nothingMayBeSkipped()) throw new Error('neither helm nor go: install one of them');
  return undefined;
}
