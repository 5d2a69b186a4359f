/** Opens what the source `kernel-log` needs on this machine. */
import { statSync } from 'node:fs';
import { answeredBy, isVip } from '../conntrack/lookup.ts';
import { loadLibc } from '../netlink/libc.ts';
import type { KernelLog, KernelLogOptions } from './capture.ts';
import { KmsgSource } from './kmsg.ts';
import { SyslogFile } from './syslog-file.ts';

/** No connection has these addresses (RFC 5737): asking for it shows whether the kernel answers such questions. */
const NO_CONNECTION = { src: '192.0.2.1', sport: 1, dst: '192.0.2.2', dport: 1 };

/** `path`: `/dev/kmsg`, or a file that a syslog daemon writes. Rejects with `CaptureError`. */
export async function openKernelLog(path: string, log: KernelLogOptions['log']): Promise<KernelLog> {
  const libc = await loadLibc();
  await answeredBy(libc, NO_CONNECTION);
  const source = isDevice(path)
    ? await KmsgSource.open(libc, path)
    : new SyslogFile(path, libc.wallClock, log);
  return {
    source,
    answeredBy: (record) => answeredBy(libc, record),
    isVip: (record) => isVip(libc, record),
  };
}

/** A path that is not there may become a file; one below /dev is meant to be the device. */
function isDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() ?? path.startsWith('/dev/');
}
