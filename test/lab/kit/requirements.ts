import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { nothingMayBeSkipped } from '../../required.ts';

/** Debian keeps these outside an ordinary user's PATH; everything the lab starts gets this one. */
export const LAB_PATH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${process.env.PATH ?? ''}`;

/** What a command says where it fails; undefined where it does not. */
export function fails(command: string, args: string[]): string | undefined {
  const run = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, PATH: LAB_PATH } });
  if (run.error) return run.error.message;
  if (run.status === 0) return undefined;
  return (run.stderr || run.stdout || `exit ${run.status}`).trim().split('\n')[0];
}

/** Commands and the Debian packages that have them, as test/install.sh takes them. */
const LAB = [
  'nginx:nginx-light',
  'conntrack:conntrack',
  'nft:nftables',
  'iptables:iptables',
  'ip:iproute2',
  'wrk:wrk',
  'curl:curl',
  'tcpdump:tcpdump',
  'sysctl:procps',
  'setpriv:util-linux',
  'flock:util-linux',
] as const;
export const BROWSER: readonly string[] = process.env.REALPOD_CHROMIUM ? [] : ['chromium:chromium'];
export const PROMETHEUS = ['prometheus:prometheus', 'promtool:prometheus'] as const;

/**
 * Why the lab cannot run here, in one line, or undefined when it can. Installs missing Debian packages first, which needs
 * root; without root nothing is touched. `more`: what is needed besides the lab's own.
 */
export function labObstacle(more: readonly string[] = []): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root (network namespaces, NAT rules); run the suite as root';
  const script = fileURLToPath(new URL('../../install.sh', import.meta.url));
  const install = fails('sh', [script, ...LAB, ...more]);
  if (install) return install;
  const unshare = fails('unshare', ['--net', 'true']);
  if (unshare) return `cannot create a network namespace: ${unshare}`;
  const nat = fails('unshare', ['--net', 'iptables', '-t', 'nat', '-S']);
  if (nat) return `no NAT rules in a network namespace: ${nat}`;
  const nft = fails('unshare', ['--net', 'nft', 'add', 'table', 'inet', 'realpod-lab-try']);
  if (nft) return `no nftables in a network namespace: ${nft}`;
  return undefined;
}

/**
 * True when the lab can run. Otherwise prints the one line `lab skipped: …`, or throws when REALPOD_LAB=required or
 * CI=true says that a skip is a failure. `obstacle`: of what is needed besides, asked when the rest is there.
 */
export function labCanRun(
  more: readonly string[] = [],
  obstacle: () => string | undefined = () => undefined,
): boolean {
  const found = labObstacle(more) ?? obstacle();
  if (!found) return true;
  if (nothingMayBeSkipped()) throw new Error(`lab required, but it cannot run: ${found}`);
  console.log(`lab skipped: ${found}`);
  return false;
}
