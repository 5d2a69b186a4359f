import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { INJECT_DEFAULTS, type InjectOptions, inject } from './inject.ts';

/** `file`: the input; `-` is stdin. */
export interface InjectCommandOptions extends InjectOptions {
  file: string;
}

export const INJECT_COMMAND_DEFAULTS: InjectCommandOptions = { ...INJECT_DEFAULTS, file: '-' };

/** `realpod inject`: YAML in, the same YAML with the sidecar on stdout. Returns the exit code: 0, or 2 with one line on stderr. */
export async function runInject(
  options: InjectCommandOptions,
  io: {
    stdin: NodeJS.ReadableStream;
    stdout: NodeJS.WritableStream;
    stderr: NodeJS.WritableStream;
  } = process,
): Promise<number> {
  let input: string;
  try {
    input = options.file === '-' ? await text(io.stdin) : await readFile(options.file, 'utf8');
  } catch (error) {
    const { message } = error as Error;
    io.stderr.write(`realpod inject: cannot read ${options.file}: ${message}\n`);
    return 2;
  }
  const result = inject(input, options);
  if (!result.ok) {
    io.stderr.write(`realpod inject: ${result.message}\n`);
    return 2;
  }
  for (const note of result.notes) io.stderr.write(`realpod inject: note: ${note}\n`);
  if (result.injected.length === 0)
    io.stderr.write('realpod inject: every nginx has its sidecar; nothing changed\n');
  if (result.next !== undefined) io.stderr.write(`realpod inject: next: ${result.next}\n`);
  await new Promise<void>((resolve, reject) => {
    io.stdout.write(result.text, (error) => (error ? reject(error) : resolve()));
  });
  return 0;
}
