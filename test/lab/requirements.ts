import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Debian keeps these outside an ordinary user's PATH; everything the lab starts gets this one. */
export const LAB_PATH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${process.env.PATH ?? ''}`;

function fails(command: string, args: string[]): string | undefined {
  const run = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, PATH: LAB_PATH } });
  if (run.error) return run.error.message;
  if (run.status === 0) return undefined;
  return (run.stderr || run.stdout || `exit ${run.status}`).trim().split('\n')[0];
}

/**
 * Why the lab cannot run here, in one line, or undefined when it can. Installs missing Debian packages first
 * (test/lab/install.sh), which needs root; without root nothing is touched.
 */
export function labObstacle(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root (network namespaces, NAT rules); run the suite as root';
  const install = fails('sh', [fileURLToPath(new URL('./install.sh', import.meta.url))]);
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
 * True when the lab can run. Otherwise prints the one line `lab skipped: …`, or throws when REALPOD_LAB=required says
 * that a skip is a failure.
 */
export function labCanRun(): boolean {
  const obstacle = labObstacle();
  if (!obstacle) return true;
  if (process.env.REALPOD_LAB === 'required') throw new Error(`lab required, but it cannot run: ${obstacle}`);
  console.log(`lab skipped: ${obstacle}`);
  return false;
}
