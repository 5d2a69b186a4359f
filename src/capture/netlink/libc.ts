/**
 * The C library's socket calls, through koffi. The only file that imports koffi, and only when capturing begins:
 * a sidecar beside a remote helper never loads native code.
 */
import { constants } from 'node:os';
import { CaptureError } from '../error.ts';

/** Calls return what the C function returns, or minus the errno. Times are ms since the epoch. */
export interface Libc {
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: Buffer): number;
  setsockopt(fd: number, level: number, option: number, value: Buffer): number;
  /** The option's value goes into `value`, which has its length. */
  getsockopt(fd: number, level: number, option: number, value: Buffer): number;
  /** Name of a network device, undefined where there is none of this index. */
  deviceName(index: number): string | undefined;
  send(fd: number, bytes: Buffer): number;
  /** In libuv's pool, as the kernel does the work of a netlink request within the call. */
  sendAsync(fd: number, bytes: Buffer): Promise<number>;
  recvAsync(fd: number, into: Buffer): Promise<number>;
  recvmmsg(fd: number, headers: Buffer, count: number): number;
  close(fd: number): number;
  /** The clock that netfilter and nginx stamp with, finer than a millisecond. */
  wallClock(): number;
  /** Address of the bytes in memory. They must not move: use `allocUnsafeSlow`. */
  addressOf(bytes: Buffer): bigint;
  /** Calls back each time `fd` is readable, from `start` until `stop`. */
  poll(fd: number, readable: () => void): Poll;
}

export interface Poll {
  start(): void;
  stop(): void;
  close(): void;
}

const MSG_DONTWAIT = 0x40;
const CLOCK_REALTIME = 0;
/** net/if.h */
const IF_NAMESIZE = 16;

let loaded: Promise<Libc> | undefined;

export function loadLibc(): Promise<Libc> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Libc> {
  const platform = `${process.platform}-${process.arch}`;
  if (platform !== 'linux-x64' && platform !== 'linux-arm64') {
    throw new CaptureError(
      'platform',
      `cannot capture on ${platform}: run the helper on Linux, x64 or arm64`,
    );
  }
  let koffi: typeof import('koffi').default;
  try {
    koffi = (await import('koffi')).default;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n', 1)[0] : String(error);
    throw new CaptureError(
      'native-module',
      `cannot load the module koffi for ${platform} (${reason}): install realpod with its optional dependencies`,
    );
  }
  const library = openLibrary(koffi);
  const socket = library.func('int socket(int, int, int)');
  const bind = library.func('int bind(int, const void *, uint32_t)');
  const setsockopt = library.func('int setsockopt(int, int, int, const void *, uint32_t)');
  const getsockopt = library.func('int getsockopt(int, int, int, void *, void *)');
  const ifIndexToName = library.func('void *if_indextoname(uint32_t, void *)');
  // `long` stands for ssize_t, which koffi does not know.
  const send = library.func('long send(int, const void *, size_t, int)');
  const recv = library.func('long recv(int, void *, size_t, int)');
  const recvmmsg = library.func('int recvmmsg(int, void *, uint32_t, int, void *)');
  const close = library.func('int close(int)');
  const clockGettime = library.func('int clock_gettime(int, void *)');

  const result = (value: number): number => (value < 0 ? -koffi.errno() : value);
  const inPool = (call: typeof send, ...args: unknown[]): Promise<number> =>
    new Promise((resolve, reject) => {
      call.async(...args, (error: Error | null, value: number) => {
        // Named here, the bytes outlive the call.
        void args;
        if (error) reject(error);
        else resolve(result(value));
      });
    });
  const length = Buffer.allocUnsafeSlow(4);
  const name = Buffer.allocUnsafeSlow(IF_NAMESIZE);
  const timespec = Buffer.allocUnsafeSlow(16);

  return {
    socket: (family, type, protocol) => result(socket(family, type, protocol)),
    bind: (fd, address) => result(bind(fd, address, address.length)),
    setsockopt: (fd, level, option, value) => result(setsockopt(fd, level, option, value, value.length)),
    getsockopt: (fd, level, option, value) => {
      length.writeUInt32LE(value.length);
      return result(getsockopt(fd, level, option, value, length));
    },
    deviceName: (index) =>
      ifIndexToName(index, name) ? name.toString('latin1', 0, name.indexOf(0)) : undefined,
    send: (fd, bytes) => result(send(fd, bytes, bytes.length, 0)),
    sendAsync: (fd, bytes) => inPool(send, fd, bytes, bytes.length, 0),
    recvAsync: (fd, into) => inPool(recv, fd, into, into.length, MSG_DONTWAIT),
    recvmmsg: (fd, headers, count) => result(recvmmsg(fd, headers, count, MSG_DONTWAIT, null)),
    close: (fd) => result(close(fd)),
    wallClock: () => {
      clockGettime(CLOCK_REALTIME, timespec);
      const seconds = timespec.readUInt32LE(0) + timespec.readUInt32LE(4) * 2 ** 32;
      return seconds * 1000 + timespec.readUInt32LE(8) / 1e6;
    },
    addressOf: (bytes) => koffi.address(bytes),
    poll: (fd, readable) => {
      const handle = koffi.node.poll(fd, { readable: true }, readable);
      handle.stop();
      return {
        start: () => handle.start({ readable: true }, readable),
        stop: () => handle.stop(),
        close: () => handle.close(),
      };
    },
  };
}

function openLibrary(koffi: typeof import('koffi').default) {
  const musl = `libc.musl-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}.so.1`;
  for (const name of ['libc.so.6', musl]) {
    try {
      return koffi.load(name);
    } catch {}
  }
  throw new CaptureError('libc', `cannot load the C library (neither libc.so.6 nor ${musl})`);
}

const { EPERM, EACCES } = constants.errno;

/** One line for a failed call: `result` is minus the errno. */
export function callFailed(what: string, result: number): CaptureError {
  const errno = -result;
  const name = Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  return errno === EPERM || errno === EACCES
    ? new CaptureError('permission', `${what}: not permitted. The helper needs the capability NET_ADMIN`)
    : new CaptureError(name, `${what}: ${name}`);
}
