import { type DoctorIo, type DoctorOptions, run } from '../../src/doctor/command.ts';

export interface DoctorResult {
  /** Exit code. */
  code: number;
  out: string;
  err: string;
}

/** Runs doctor on files in memory, of one byte a character. `-` is stdin; `directories`: what is in them. */
export async function runDoctor(
  files: Readonly<Record<string, string>>,
  options: Partial<DoctorOptions> & Pick<DoctorOptions, 'input'>,
  directories: Readonly<Record<string, string[]>> = {},
): Promise<DoctorResult> {
  const out: Uint8Array[] = [];
  const err: Uint8Array[] = [];
  const io: DoctorIo = {
    read: (path) => files[path] ?? null,
    list: (path) => directories[path] ?? null,
    stdin: async () => Buffer.from(files['-'] ?? '', 'latin1'),
    stdout: (bytes) => void out.push(bytes),
    stderr: (bytes) => void err.push(bytes),
  };
  const code = await run({ fix: false, color: false, ...options }, io);
  const text = (chunks: Uint8Array[]): string => Buffer.concat(chunks).toString('latin1');
  return { code, out: text(out), err: text(err) };
}
