import { createReadStream } from 'node:fs';
import { constants, createGunzip, gunzipSync } from 'node:zlib';

/**
 * What begins a file that nginx compresses as it writes (`access_log … gzip`): zlib's header without name and time. The NULs
 * tell it from any line, into which no client can bring one.
 */
const WRITTEN_COMPRESSED = Buffer.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0);

export function isWrittenCompressed(begin: Buffer): boolean {
  const { length } = WRITTEN_COMPRESSED;
  return begin.length >= length && begin.compare(WRITTEN_COMPRESSED, 0, length, 0, length) === 0;
}

/** The content of an open gzip file (RFC 1952), read forward piece by piece in constant memory. Owns the descriptor. */
export class GzipContent {
  ended = false;
  readonly #source;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer | undefined;

  constructor(fd: number) {
    const source = createReadStream('', { fd, start: 0 });
    const gunzip = createGunzip();
    source.on('error', (error) => gunzip.destroy(error));
    this.#source = source;
    this.#chunks = source.pipe(gunzip)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** Bytes put into `room`; 0 at the end. Throws zlib's error when the file is damaged or cut off. */
  async read(room: Buffer): Promise<number> {
    if (!this.#rest) {
      if (this.ended) return 0;
      let step: IteratorResult<Buffer>;
      try {
        step = await this.#chunks.next();
      } catch (error) {
        this.ended = true;
        throw error;
      }
      if (step.done) {
        this.ended = true;
        return 0;
      }
      this.#rest = step.value;
    }
    const bytes = this.#rest.copy(room);
    this.#rest = bytes < this.#rest.length ? this.#rest.subarray(bytes) : undefined;
    return bytes;
  }

  close(): void {
    this.ended = true;
    this.#source.destroy();
    void this.#chunks.return?.();
  }
}

/** The first bytes of a gzip file's content, given its first compressed bytes; empty if `raw` is not gzip. */
export function gunzipHead(raw: Buffer): Buffer {
  if (raw[0] !== 0x1f || raw[1] !== 0x8b) return Buffer.alloc(0);
  try {
    return gunzipSync(raw, { finishFlush: constants.Z_SYNC_FLUSH });
  } catch {
    return Buffer.alloc(0);
  }
}
