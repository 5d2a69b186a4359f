#!/usr/bin/env node
import { createRequire } from 'node:module';
import { COMMAND, COMMANDS } from './config/commands.ts';
import { didYouMean, unknownVariables } from './config/environment.ts';
import { helpText } from './config/help.ts';
import { type Command, type Options, UsageError } from './config/option.ts';
import { readOptions, readSoundOptions } from './config/read.ts';

/** Runs one command with what stands behind its name; resolves with the exit code. */
type Run = (argv: readonly string[]) => Promise<number>;

function runner<C extends Command>(command: C, run: (options: Options<C>) => Promise<number>): Run {
  return (argv) => run(readOptions(command, argv, process.env));
}

const say = (text: string): void => void process.stderr.write(`realpod: ${text}\n`);

/** Each command's code is loaded when it runs: a sidecar must not pay for a helper's packages. */
const RUN: Readonly<Record<keyof typeof COMMAND, Run>> = {
  sidecar: async (argv) => {
    const { passLines, runSidecar } = await import('./sidecar.ts');
    try {
      return await runSidecar(readOptions(COMMAND.sidecar, argv, process.env));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const options = readSoundOptions(COMMAND.sidecar, argv, process.env);
      if (options.onBadOptions !== 'pass') throw error;
      return passLines(options, error.message);
    }
  },
  helper: runner(COMMAND.helper, async (options) => (await import('./helper.ts')).runHelper(options)),
  doctor: runner(COMMAND.doctor, async ({ argument, ...options }) => {
    if (argument === undefined && process.stdin.isTTY) {
      throw new UsageError('give a configuration file, or: nginx -T | realpod doctor');
    }
    const { lookOf } = await import('./terminal/table.ts');
    const { color } = lookOf(process.stdout, process.env);
    return (await import('./doctor/command.ts')).run({ ...options, input: argument ?? '-', color });
  }),
  inject: runner(COMMAND.inject, async ({ argument, ...options }) => {
    if (argument === undefined && process.stdin.isTTY) {
      throw new UsageError('give a manifest, or: realpod inject < deployment.yaml');
    }
    return (await import('./inject/command.ts')).runInject({ ...options, file: argument ?? '-' });
  }),
  webhook: runner(COMMAND.webhook, async (options) =>
    (await import('./webhook/command.ts')).runWebhook(options),
  ),
  enrich: runner(COMMAND.enrich, async (options) =>
    (await import('./enrich/command.ts')).runEnrich(options, process.stdin, process.stdout, process.stderr),
  ),
  record: runner(COMMAND.record, async (options) => {
    const { runRecord } = await import('./enrich/record.ts');
    const { untilSignal } = await import('./signals.ts');
    const { stderrLog } = await import('./log.ts');
    return runRecord(options, untilSignal(), stderrLog('record', options.log));
  }),
  lookup: runner(COMMAND.lookup, async (options) => {
    const { lookOf } = await import('./terminal/table.ts');
    const look = lookOf(process.stdout, process.env);
    return (await import('./terminal/lookup.ts')).runLookup(options, process.stdout, look);
  }),
  tail: runner(COMMAND.tail, async (options) => {
    const { lookOf } = await import('./terminal/table.ts');
    const { untilSignal } = await import('./signals.ts');
    const ending = new AbortController();
    void untilSignal().then(() => ending.abort());
    const look = lookOf(process.stdout, process.env);
    return (await import('./terminal/tail.ts')).runTail(options, process.stdout, look, say, ending.signal);
  }),
  demo: runner(COMMAND.demo, async (options) => {
    const { runSidecar } = await import('./sidecar.ts');
    return (await import('./demo/command.ts')).runDemo(options, runSidecar);
  }),
};

const isCommand = (name: string): name is keyof typeof COMMAND => Object.hasOwn(COMMAND, name);

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--version' || name === '-V') {
    const { version } = createRequire(import.meta.url)('../package.json') as { version: string };
    process.stdout.write(`realpod ${version}\n`);
    return 0;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(helpText(COMMANDS.find((command) => command.name === rest[0])));
    return name === undefined ? 2 : 0;
  }
  if (!isCommand(name)) {
    throw new UsageError(
      `there is no command ${name}${didYouMean(name, Object.keys(COMMAND))}; see realpod --help`,
    );
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(helpText(COMMAND[name]));
    return 0;
  }
  for (const warning of unknownVariables(process.env, COMMANDS)) say(warning);
  return RUN[name](rest);
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    say(error instanceof Error ? error.message : String(error));
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
