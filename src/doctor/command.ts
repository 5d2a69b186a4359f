/** `realpod doctor`: the evidence that this nginx can reach, and the configuration lines that are missing. */
import { allExact, type DoctorNames } from './finding.ts';
import { examine, fix } from './fix.ts';
import { disk, loadFile, loadText } from './load.ts';
import { ConfError } from './parse-conf.ts';
import { counts, report } from './report.ts';
import type { ConfFiles, Disk } from './sources.ts';

export interface DoctorOptions {
  /** A file with `nginx -T` output or a configuration, or `-` for stdin. */
  input: string;
  /** Prints a patch instead of the report. */
  fix: boolean;
  /** Log variable with the id, without `$`. Undefined: `request_id`, or the variable that this nginx sends instead. */
  requestIdField?: string | undefined;
  /** Default: `X-Request-ID`. */
  requestIdHeader?: string | undefined;
  /** Log variable with the upstream's local port, without `$`. */
  localPortField?: string | undefined;
  color: boolean;
}

/** Bytes stay unchanged: files may have any encoding. */
export interface DoctorIo extends Disk {
  stdin(): Promise<Uint8Array>;
  stdout(bytes: Uint8Array): void;
  stderr(bytes: Uint8Array): void;
}

/** 0: all exact. 1: something is less than exact, or was not read. 2: bad input, one line on stderr. */
export type DoctorExit = 0 | 1 | 2;

const MAX_BYTES = 64 * 1024 * 1024;

export const processIo: DoctorIo = {
  ...disk,
  async stdin() {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_BYTES)
        throw new ConfError(`stdin: more than ${MAX_BYTES} bytes, not an nginx configuration`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  },
  stdout: (bytes) => void process.stdout.write(bytes),
  stderr: (bytes) => void process.stderr.write(bytes),
};

async function load(options: DoctorOptions, io: DoctorIo): Promise<ConfFiles> {
  if (options.input !== '-') return loadFile(options.input, io);
  return loadText(Buffer.from(await io.stdin()).toString('latin1'));
}

/** The command that applies the patch, as text that patch and git skip. */
function preamble(sources: ConfFiles): string {
  return sources.main.startsWith('/')
    ? '# apply with: patch -p0 -d / < this-file   or: git -C / apply -p0 < this-file\n'
    : '# apply with: patch -p0 < this-file   or: git apply -p0 this-file\n';
}

export async function run(options: DoctorOptions, io: DoctorIo = processIo): Promise<DoctorExit> {
  const bytes = (text: string) => Buffer.from(text, 'latin1');
  try {
    const sources = await load(options, io);
    const names: DoctorNames = {
      field: options.requestIdField ?? 'request_id',
      header: options.requestIdHeader ?? 'X-Request-ID',
      ...(options.localPortField ? { localPortField: options.localPortField } : {}),
    };
    const explicit = options.requestIdField !== undefined;
    const diagnosis = examine(sources, names, explicit);
    const proposed = fix(sources, names, explicit);
    if (!options.fix) {
      io.stdout(bytes(report(sources.main, diagnosis, proposed, options.color)));
      return allExact(diagnosis) ? 0 : 1;
    }
    if (proposed.patch) io.stdout(bytes(preamble(sources) + proposed.patch));
    const result = proposed.patch ? 'with this patch' : 'nothing to change';
    io.stderr(bytes(`realpod doctor: ${result}: ${counts(proposed.after) || 'no proxying location'}\n`));
    return allExact(proposed.after) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
    io.stderr(bytes(`realpod doctor: ${error.message}\n`));
    return 2;
  }
}
