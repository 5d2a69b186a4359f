import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fails, LAB_PATH } from '../kit/requirements.ts';

/** The kernel stays unpacked here between runs. */
const CACHE = join(tmpdir(), 'realpod-vm-cache');
/** Modules without which the host's root cannot be mounted. */
const ROOT_MODULES = ['virtio_pci', '9pnet_virtio', '9p', 'overlay'];
const MEMORY_MB = 2048;

/** An emulator, a static shell, and what unpacks a kernel, as test/install.sh takes them. */
export const VM = [
  'qemu-system-x86_64:qemu-system-x86',
  'ipvsadm:ipvsadm',
  'cpio:cpio',
  'depmod:kmod',
  '/bin/busybox:busybox-static',
] as const;

/** Why no virtual machine can run here, in one line. Fetches the kernel first. */
export function vmObstacle(): string | undefined {
  if (process.arch !== 'x64') return `the IPVS check needs an x64 machine, this is ${process.arch}`;
  return fails('sh', [fileURLToPath(new URL('./kernel.sh', import.meta.url)), CACHE]);
}

export interface VmRun {
  /** Everything on the machine's console. */
  console: string;
  /** Files that the command left in /realpod-vm, by name. */
  files: ReadonlyMap<string, string>;
}

/**
 * Boots a virtual machine whose root is this machine's, read-only under an overlay in memory; runs a shell script in it,
 * with /realpod-vm to leave files in; powers it off. Ends it after `limitMs`, whatever it does.
 */
export async function runInVm(script: string, limitMs: number): Promise<VmRun> {
  const kernel = join(CACHE, 'kernel');
  const version = readdirSync(join(kernel, 'lib/modules'))[0]!;
  const dir = mkdtempSync(join(tmpdir(), 'realpod-vm-'));
  const exchange = join(dir, 'exchange');
  mkdirSync(exchange);
  // In a shell of its own, so that the machine powers off however it ends.
  const command = `export PATH=${LAB_PATH} HOME=/root\n(\n${script}\n)\n/bin/busybox sync\n/bin/busybox poweroff -f\n`;
  writeFileSync(join(exchange, 'command'), command);
  try {
    const initrd = makeInitrd(dir, join(kernel, 'lib/modules', version));
    const share = (tag: string, path: string, more: string) => [
      '-virtfs',
      `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${more}`,
    ];
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(MEMORY_MB)],
        ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
        ...['-kernel', join(kernel, 'boot', `vmlinuz-${version}`), '-initrd', initrd],
        ...['-append', 'console=ttyS0 quiet panic=-1 loglevel=4 mitigations=off'],
        ...share('root', '/', ',readonly=on'),
        ...share('modules', join(kernel, 'lib/modules'), ',readonly=on'),
        ...share('exchange', exchange, ''),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: LAB_PATH } },
    );
    let console = '';
    for (const stream of [qemu.stdout, qemu.stderr])
      stream.setEncoding('latin1').on('data', (text: string) => {
        console = (console + text).slice(-200_000);
        if (process.env.REALPOD_LAB_ROWS) process.stderr.write(text);
      });
    const end = () => qemu.kill('SIGKILL');
    const limit = setTimeout(end, limitMs);
    process.once('exit', end);
    await new Promise<void>((resolve, reject) => {
      qemu.once('error', reject);
      qemu.once('close', () => resolve());
    });
    clearTimeout(limit);
    process.off('exit', end);
    const names = readdirSync(exchange).filter((name) => name !== 'command');
    return {
      console,
      files: new Map(names.map((name) => [name, readFileSync(join(exchange, name), 'utf8')])),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A shell, `init` and the modules that it loads, in the order of their dependencies. */
function makeInitrd(dir: string, modules: string): string {
  const tree = join(dir, 'initrd');
  mkdirSync(join(tree, 'bin'), { recursive: true });
  mkdirSync(join(tree, 'modules'));
  cpSync('/bin/busybox', join(tree, 'bin/busybox'), { dereference: true });
  cpSync(fileURLToPath(new URL('./init', import.meta.url)), join(tree, 'init'));
  const needs = new Map<string, string[]>();
  for (const line of readFileSync(join(modules, 'modules.dep'), 'utf8').split('\n')) {
    const [module = '', rest = ''] = line.split(':');
    needs.set(module, rest.split(' ').filter(Boolean));
  }
  const order: string[] = [];
  const add = (module: string): void => {
    if (order.includes(module)) return;
    for (const needed of needs.get(module) ?? []) add(needed);
    order.push(module);
  };
  for (const name of ROOT_MODULES) {
    for (const module of needs.keys()) if (basename(module) === `${name}.ko`) add(module);
  }
  for (const module of order) cpSync(join(modules, module), join(tree, 'modules', basename(module)));
  writeFileSync(join(tree, 'modules/order'), order.map((module) => basename(module)).join('\n'));
  const image = join(dir, 'initrd.cpio');
  const script = `cd ${tree} && chmod 755 init && find . | cpio -o -H newc --quiet > ${image}`;
  const run = spawnSync('sh', ['-ec', script], { encoding: 'utf8', env: { ...process.env, PATH: LAB_PATH } });
  if (run.status !== 0) throw new Error(`lab: no initramfs: ${run.stderr.trim()}`);
  return image;
}
